//! Images larger than the recipe's: transformers on patches of 8 pixels, and pictures of files at the size that a configuration names.

use std::path::Path;

use perennial_encode::{Encoder, Input, encode_png};
use perennial_train::config::SetConfig;
use perennial_train::{
    DeviceChoice, ExperimentConfig, Outcome, PretrainConfig, Silent, TrainedEncoder,
};

use crate::bench::Bench;

const LARGE: &str =
    "{ set = \"generated\", generated = { classes = 4, images_per_class = 6, size = 64 } }";

fn pretraining(name: &str, data: &str) -> PretrainConfig {
    toml::from_str(&format!(
        r#"
name = "{name}"
seed = 1
data = {data}
network = {{ backbone = "vit6", stem = "patch8", width = 64 }}
method = {{ kind = "simplex", vertices = 32 }}
training = {{ epochs = 1, batch_size = 8, learning_rate = 0.02 }}
"#
    ))
    .unwrap()
}

fn experiment(name: &str, data: &str) -> ExperimentConfig {
    toml::from_str(&format!(
        r#"
name = "{name}"
seed = 2
initial_model = "start"
data = {data}
network = {{ backbone = "vit6", stem = "patch8", width = 64 }}
method = {{ kind = "hoc", vertices = 32 }}
scenario = {{ initial_classes = 2, increment = 2 }}
memory = {{ images_per_class = 2 }}
training = {{ epochs = 2, batch_size = 8, learning_rate = 0.02 }}
"#
    ))
    .unwrap()
}

#[test]
fn a_transformer_trains_resumes_and_embeds_at_64_pixels() {
    let bench = Bench::new();
    bench.pretrain(&pretraining("start", LARGE)).unwrap();
    let whole = bench.train(&experiment("whole", LARGE), false, &mut Silent);
    let whole = whole.unwrap();
    let pieces = bench.train_in_pieces(&experiment("pieces", LARGE));
    assert_eq!(bench.weights(&whole), bench.weights(&pieces));

    let Outcome::Finished(names) = &whole else {
        panic!()
    };
    assert_eq!(names.len(), 2);
    let version = bench.registry.get(&names[1]).unwrap();
    assert_eq!(version.picture_size(), Some([64, 64]));
    let device = DeviceChoice::Cpu.open().unwrap();
    let encoder = TrainedEncoder::load(&bench.registry, version, &device).unwrap();
    let set = experiment("set", LARGE).data.load(Path::new("nowhere"));
    let set = set.unwrap();
    assert_eq!(set.shape(), [3, 64, 64]);
    let prepare = |image: usize| {
        let (pixels, shape) = (set.image(image), set.shape());
        encoder.prepare(Input::Pixels { pixels, shape }).unwrap()
    };
    let embeddings = encoder.encode(&[prepare(0), prepare(20)]).unwrap();
    let [one, other] = [&embeddings[..31], &embeddings[31..]];
    let cosine: f32 = one.iter().zip(other).map(|(a, b)| a * b).sum();
    assert!(cosine.is_finite() && cosine < 0.9999, "{cosine}");
}

#[test]
fn images_that_are_no_whole_patches_are_refused_and_smaller_ones_scaled() {
    let bench = Bench::new();
    let odd = LARGE.replace("size = 64", "size = 60");
    let error = bench.pretrain(&pretraining("odd", &odd)).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("`network.stem`") && error.contains("60x60"),
        "{error}"
    );
    // Nothing has begun under that name.
    bench.pretrain(&pretraining("odd", LARGE)).unwrap();
    // Position embeddings of 64 patches, and images of 16: the start keeps its size.
    bench.pretrain(&pretraining("start", LARGE)).unwrap();
    let small = LARGE.replace("size = 64", "size = 32");
    let trained = bench.train(&experiment("small", &small), false, &mut Silent);
    let Outcome::Finished(names) = trained.unwrap() else {
        panic!()
    };
    let version = bench.registry.get(&names[1]).unwrap();
    assert_eq!(version.picture_size(), Some([64, 64]));
}

/// Two classes of pictures of 64x64 pixels.
fn pictures(folder: &Path) {
    for class in ["cat", "dog"] {
        std::fs::create_dir_all(folder.join(class)).unwrap();
        for number in 0..4_u8 {
            let shade = number * 50 + u8::from(class == "dog") * 20;
            let pixels: Vec<u8> = (0..3 * 64 * 64)
                .map(|at| shade.wrapping_add((at % 64) as u8))
                .collect();
            let file = folder.join(class).join(format!("{number}.png"));
            std::fs::write(file, encode_png(&pixels, [3, 64, 64]).unwrap()).unwrap();
        }
    }
}

fn set(text: &str) -> SetConfig {
    toml::from_str(text).unwrap()
}

#[test]
fn pictures_of_files_are_read_and_trained_on_at_the_size_that_is_named() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("pictures");
    pictures(&folder);
    let folder = folder.display().to_string();
    let root = Path::new("nowhere");

    let usual = set(&format!("set = \"folder:{folder}\""));
    assert_eq!(usual.load(root).unwrap().shape(), [3, 32, 32]);
    let large = set(&format!("set = \"folder:{folder}\"\nsize = 64"));
    // As they are in the files, whatever size a version takes.
    let read = large.load_sized(root, 32).unwrap();
    assert_eq!(read.shape(), [3, 64, 64]);
    let row: Vec<u8> = (50..114).collect();
    assert_eq!(read.image(1)[..64], row);
    assert!(large.describe().ends_with("/train 64x64"));

    let data = format!("{{ set = \"folder:{folder}\", size = 64 }}");
    let made = bench.pretrain(&pretraining("large", &data)).unwrap();
    let Outcome::Finished(names) = made else {
        panic!()
    };
    let version = bench.registry.get(&names[0]).unwrap();
    assert_eq!(version.picture_size(), Some([64, 64]));

    for (text, expected) in [
        (format!("set = \"folder:{folder}\"\nsize = 4"), "[8, 512]"),
        (format!("set = \"folder:{folder}\"\nsize = 513"), "[8, 512]"),
        ("set = \"cifar10\"\nsize = 64".to_owned(), "cifar10"),
        (
            "set = \"generated\"\ngenerated = { classes = 2, images_per_class = 2 }\nsize = 64"
                .to_owned(),
            "generated.size",
        ),
    ] {
        let error = set(&text).load(root).unwrap_err().to_string();
        assert!(
            error.contains("`data.size`") && error.contains(expected),
            "{text}: {error}"
        );
    }
}
