//! What the recipes make of keys that a configuration leaves out.

use perennial_train::ExperimentConfig;
use perennial_train::config::{Entry, Recipe};

fn written(head: &str, method: &str, training: &str, entry: &str) -> ExperimentConfig {
    let text = format!(
        "name = 'a'\n{head}\n[data]\nset = 'cifar100'\n[network]\nbackbone = 'small'\nwidth = 4\n[method]\nkind = '{method}'\n\
         [scenario]\ninitial_classes = 2\nincrement = 2\n[training]\nepochs = 3\n{training}\n\
         [[replacements]]\nbefore_task = 1\nmodel = 'better'\n{entry}\n"
    );
    toml::from_str(&text).unwrap()
}

#[test]
fn the_best_measured_settings_are_the_default() {
    let config = written("", "hoc", "", "").completed();
    assert_eq!(config.recipe, Some(Recipe::Best));
    assert_eq!(config.training.start_share, Some(0.5));
    assert_eq!(config.replacements[0].entry(), Entry::Bridged);
    config.check().unwrap();
}

#[test]
fn parity_is_the_published_recipe() {
    let config = written("recipe = 'parity'", "hoc", "", "").completed();
    assert_eq!(config.recipe, Some(Recipe::Parity));
    assert_eq!(config.training.start_share, None);
    assert_eq!(config.replacements[0].entry(), Entry::Pretrained);
}

#[test]
fn keys_that_are_written_stay() {
    let config = written("", "hoc", "start_share = 0", "entry = 'pretrained'").completed();
    assert_eq!(config.training.start_share, Some(0.0));
    assert_eq!(config.replacements[0].entry(), Entry::Pretrained);
    let share = written("recipe = 'parity'", "hoc", "start_share = 0.25", "").completed();
    assert_eq!(share.training.start_share, Some(0.25));
}

#[test]
fn other_methods_have_one_recipe_and_keep_their_configuration() {
    for method in ["er", "simplex", "fd", "bct"] {
        let config = written("", method, "", "");
        assert_eq!(config.clone().completed(), config, "{method}");
        let config = written("recipe = 'best'", method, "", "").completed();
        assert_eq!(config, written("", method, "", ""), "{method}");
    }
}

/// What a run writes is read as the same configuration, whether it is completed again or not.
#[test]
fn a_completed_configuration_is_complete() {
    for head in ["", "recipe = 'parity'"] {
        for training in ["", "start_share = 0"] {
            let config = written(head, "hoc", training, "").completed();
            let text = toml::to_string(&config).unwrap();
            let read: ExperimentConfig = toml::from_str(&text).unwrap();
            assert_eq!(read, config);
            assert_eq!(read.completed(), config);
        }
    }
}

#[test]
fn a_recipe_that_does_not_exist_is_refused() {
    let text = toml::to_string(&written("", "hoc", "", "")).unwrap();
    let error =
        toml::from_str::<ExperimentConfig>(&format!("recipe = 'published'\n{text}")).unwrap_err();
    assert!(error.to_string().contains("`best` or `parity`"), "{error}");
}
