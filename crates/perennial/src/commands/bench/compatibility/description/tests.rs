use super::*;

const EXPERIMENT: &str = "name = 'a'\n[data]\nset = 'generated'\ngenerated = { classes = 4, images_per_class = 4 }\n\
                          [network]\nbackbone = 'small'\nwidth = 4\n[method]\nkind = 'er'\n\
                          [scenario]\ninitial_classes = 2\nincrement = 2\n[training]\nepochs = 3\n";
const BENCHMARK: &str = "name = 'toy'\nseeds = [0, 2]\nset = { training.epochs = 4, training.batch_size = 8 }\n\
                         [[methods]]\nname = 'er'\nconfig = 'er.toml'\nset = { training.epochs = 6 }\n\
                         [[methods]]\nname = 'other'\ntitle = 'another'\nconfig = 'er.toml'\n\
                         [[scenarios]]\nname = 'short'\nset = { training.epochs = 5 }\n\
                         [[scenarios]]\nname = 'long'\nmethods = ['er']\nseeds = [7]\nmethod.er = { training.epochs = 9 }\n";

fn read(text: &str) -> anyhow::Result<Read> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("er.toml"), EXPERIMENT).unwrap();
    let path = folder.path().join("toy.toml");
    std::fs::write(&path, text).unwrap();
    let read = Read::file(&path)?;
    // While the files are there.
    for scenario in &read.description.scenarios {
        let (methods, seeds) = read.of_scenario(scenario);
        for method in methods {
            read.experiment(scenario, method, seeds[0], "x")?;
        }
    }
    Ok(read)
}

fn message(from: &str, to: &str) -> String {
    assert!(BENCHMARK.contains(from), "{from}");
    let error = read(&BENCHMARK.replacen(from, to, 1)).unwrap_err();
    crate::exit_status::one_line(&error)
}

#[test]
fn later_layers_win() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("er.toml"), EXPERIMENT).unwrap();
    std::fs::write(folder.path().join("toy.toml"), BENCHMARK).unwrap();
    let read = Read::file(&folder.path().join("toy.toml")).unwrap();
    let [short, long] = &read.description.scenarios[..] else {
        panic!("two scenarios");
    };
    let epochs = |scenario: &Scenario, method: &Method| {
        let config = read.experiment(scenario, method, 3, "run").unwrap();
        assert_eq!((config.name.as_str(), config.seed), ("run", 3));
        assert_eq!(config.training.batch_size, 8);
        config.training.epochs
    };
    let (methods, seeds) = read.of_scenario(short);
    assert_eq!(seeds, [0, 2]);
    assert_eq!(methods.len(), 2);
    assert_eq!(methods[1].title(), "another");
    assert_eq!(epochs(short, methods[0]), 6);
    assert_eq!(epochs(short, methods[1]), 5);
    let (methods, seeds) = read.of_scenario(long);
    assert_eq!((methods.len(), seeds), (1, &[7][..]));
    assert_eq!(epochs(long, methods[0]), 9);
}

#[test]
fn mistakes_name_their_key() {
    read(BENCHMARK).unwrap();
    for (from, to, expected) in [
        (
            "seeds = [0, 2]",
            "seeds = [0, 0]",
            "key `seeds`: 0 appears twice",
        ),
        ("seeds = [0, 2]", "seeds = []", "key `seeds`"),
        ("seeds = [0, 2]", "seeds = [0]\nmethod = 3", "`method`"),
        ("name = 'toy'", "name = 'to.y'", "key `name`"),
        (
            "name = 'other'",
            "name = 'er'",
            "`methods.1.name`: er appears twice",
        ),
        (
            "title = 'another'",
            "title = 'er'",
            "`methods.1.title`: an earlier method is called er",
        ),
        (
            "seeds = [0, 2]",
            "seeds = [0]\nroutes = { fit_pairs = [5, 5] }",
            "`routes.fit_pairs`: 5 appears twice",
        ),
        (
            "['er']",
            "['err']",
            "`scenarios.1.methods`: err is no method",
        ),
        (
            "method.er =",
            "method.err =",
            "`scenarios.1.method`: err is no method",
        ),
        ("title = 'another'", "routes = ['dual']", "routes.fit_set"),
        ("title = 'another'", "routes = ['duel']", "duel"),
        (
            "title = 'another'",
            "titel = 'another'",
            "`methods.1.titel`",
        ),
        (
            "set = { training.epochs = 5 }",
            "set = { training.epoch = 5 }",
            "`set` of scenario short",
        ),
        (
            "set = { training.epochs = 6 }",
            "set = { training.epochs = 0 }",
            "`set` of method er",
        ),
    ] {
        let found = message(from, to);
        assert!(found.contains(expected), "{to}: {found}");
    }
    let missing = message("config = 'er.toml'\nset", "config = 'es.toml'\nset");
    assert!(missing.contains("es.toml does not exist"), "{missing}");
}
