//! `data`: published folders are read and converted, and a set with files missing is called partial.

use image::{Rgb, RgbImage};

use crate::bench::Bench;

/// A corner of Tiny-ImageNet in its published layout: three classes, the third without images.
fn tiny_imagenet(bench: &Bench, folder: &str) {
    let root = bench.path(folder);
    for (class, number, shade) in [("n02", 0, 40), ("n01", 10, 90), ("n01", 9, 60)] {
        let images = root.join("train").join(class).join("images");
        std::fs::create_dir_all(&images).unwrap();
        RgbImage::from_pixel(64, 64, Rgb([shade, 100, 200]))
            .save_with_format(
                images.join(format!("{class}_{number}.JPEG")),
                image::ImageFormat::Jpeg,
            )
            .unwrap();
    }
    std::fs::create_dir_all(root.join("val/images")).unwrap();
    RgbImage::from_pixel(64, 64, Rgb([7, 8, 9]))
        .save_with_format(root.join("val/images/val_0.JPEG"), image::ImageFormat::Png)
        .unwrap();
    std::fs::write(
        root.join("val/val_annotations.txt"),
        "val_0.JPEG\tn02\t0\t0\t9\t9\n",
    )
    .unwrap();
    std::fs::write(root.join("wnids.txt"), "n02\nn01\nn03\n").unwrap();
    std::fs::write(root.join("words.txt"), "n01\tgoldfish\nn02\tacorn\n").unwrap();
}

/// One batch file of two records of each label.
fn cifar10(bench: &Bench) {
    let folder = bench.path("data/cifar-10-batches-bin");
    std::fs::create_dir_all(&folder).unwrap();
    let records: Vec<u8> = (0..20_u8)
        .flat_map(|image| [vec![image % 10], vec![image * 9; 3072]].concat())
        .collect();
    std::fs::write(folder.join("data_batch_3.bin"), records).unwrap();
}

#[test]
fn tiny_imagenet_is_read_as_it_is_published_and_converted_to_records() {
    let bench = Bench::new();
    bench
        .run(&["data", "show", "tinyimagenet:train"])
        .assert_wrong_usage(&[
            "tiny-imagenet-200 does not exist",
            "data fetch tinyimagenet",
        ]);
    bench
        .run(&["data", "fetch", "tinyimagenet"])
        .assert_wrong_usage(&[
            "without a checksum",
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        ]);
    tiny_imagenet(&bench, "data/tiny-imagenet-200");
    assert_eq!(
        bench.answer(&["data", "fetch", "tinyimagenet"])["already_present"],
        true
    );

    let read = bench.answer(&["data", "show", "tinyimagenet:train"]);
    assert_eq!(
        (&read["images"], &read["width"], &read["classes"]),
        (&3.into(), &32.into(), &2.into())
    );
    assert_eq!(read["official_images"], 100_000);
    assert_eq!(read["partial"], true);
    assert_eq!(
        read["missing_files"],
        serde_json::json!(["train/n03/images"])
    );

    let converted = bench.answer(&["data", "convert", "tinyimagenet"]);
    assert_eq!(converted["files"][0]["images"], 3);
    assert_eq!(
        bench.read("data/tinyimagenet32/classes.tsv"),
        "0\tn01\tgoldfish\n1\tn02\tacorn\n2\tn03\tn03\n"
    );
    for split in ["train", "val"] {
        let [folders, records] = ["tinyimagenet", "tinyimagenet32"]
            .map(|set| bench.answer(&["data", "show", &format!("{set}:{split}")]));
        assert_eq!(folders["sha256"], records["sha256"], "{split}");
    }
    let again = bench.run(&["data", "convert", "tinyimagenet"]);
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert!(
        again
            .stderr
            .contains("train.bin: already exists and is not overwritten"),
        "{}",
        again.stderr
    );
    bench.succeed(&["data", "convert", "tinyimagenet", "--out", "elsewhere"]);
    bench
        .run(&["data", "convert", "tinyimagenet", "--from", "nowhere"])
        .assert_wrong_usage(&["nowhere is not a folder"]);
}

#[test]
fn tiny_imagenet_trains_and_embeds_at_its_own_size() {
    let bench = Bench::new();
    tiny_imagenet(&bench, "data/tiny-imagenet-200");
    let show = |split: &str| {
        let set = format!("{{ set = \"tinyimagenet\", split = \"{split}\", size = 64 }}");
        bench.answer(&["data", "show", &set])
    };
    let train = show("train");
    assert_eq!(train["set"], "tinyimagenet/train 64x64");
    assert_eq!(
        (&train["height"], &train["width"]),
        (&64.into(), &64.into())
    );

    bench.write(
        "large.toml",
        r#"
name = "large"
data = { set = "tinyimagenet", size = 64, classes = [0, 2] }
network = { backbone = "vit6", stem = "patch8", width = 64 }
method = { kind = "er" }
training = { epochs = 1, batch_size = 2 }
"#,
    );
    bench.succeed(&["pretrain", "large.toml"]);
    let shown = bench.succeed(&["models", "show", "large"]);
    assert!(shown.contains("64"), "{shown}");
    // Without a size, images are read as large as the version takes them.
    let sized = "{ set = \"tinyimagenet\", split = \"val\", size = 64 }";
    for (set, out) in [("tinyimagenet:val", "one.npy"), (sized, "two.npy")] {
        let embedded = bench.answer(&["embed", "large", "--set", set, "--out", out]);
        assert_eq!(embedded["set_sha256"], show("val")["sha256"], "{set}");
    }
    let other = ["--name", "other", "--set", "data.set=\"cifar10\""];
    bench
        .run(&[&["pretrain", "large.toml"], &other[..]].concat())
        .assert_wrong_usage(&["`data.size`", "cifar10"]);
    bench
        .run(&[
            "embed",
            "large",
            "--set",
            "{ set = \"folder:data\", size = 64 }",
            "--out",
            "other.npy",
        ])
        .assert_wrong_usage(&["key `size`"]);
}

#[test]
fn a_damaged_picture_leaves_no_half_converted_file() {
    let bench = Bench::new();
    tiny_imagenet(&bench, "set");
    std::fs::write(bench.path("set/train/n01/images/n01_9.JPEG"), "no picture").unwrap();
    let ended = bench.run(&[
        "data",
        "convert",
        "tinyimagenet",
        "--from",
        "set",
        "--out",
        "out",
    ]);
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("n01_9.JPEG"), "{}", ended.stderr);
    let left: Vec<_> = std::fs::read_dir(bench.path("out")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_partial_set_is_called_partial_wherever_it_is_used() {
    let bench = Bench::new();
    cifar10(&bench);
    let named = "20 of 50,000 images; missing: data_batch_1.bin, data_batch_2.bin, data_batch_4.bin, data_batch_5.bin";
    let shown = bench.succeed(&["data", "show", "cifar10"]);
    assert!(
        shown.contains(&format!("a partial set: {named}")),
        "{shown}"
    );

    bench.write(
        "partial.toml",
        r#"
name = "partial"
seed = 1
[data]
set = "cifar10"
classes = [0, 5]
[network]
backbone = "small"
width = 2
[method]
kind = "er"
[training]
epochs = 1
batch_size = 4
"#,
    );
    let trained = bench.run(&["pretrain", "partial.toml"]);
    assert_eq!(trained.code, Some(0), "{}", trained.stderr);
    assert!(
        trained
            .stderr
            .contains(&format!("cifar10 train is a partial set: {named}")),
        "{}",
        trained.stderr
    );
    let data = &bench.json("runs/partial/run.json")["data"];
    assert_eq!(data["set"], "cifar10/train classes 0..5");
    assert_eq!(
        (&data["images"], &data["images_in_files"]),
        (&10.into(), &20.into())
    );
    assert_eq!(
        (&data["official_images"], &data["partial"]),
        (&50_000.into(), &true.into())
    );
    assert_eq!(data["missing_files"][3], "data_batch_5.bin");

    // The same records with other pixels.
    let folder = bench.path("data/cifar-10-batches-bin");
    let mut records = std::fs::read(folder.join("data_batch_3.bin")).unwrap();
    for record in records.chunks_exact_mut(1 + 3 * 32 * 32) {
        record[1..].iter_mut().for_each(|value| *value ^= 1);
    }
    std::fs::write(folder.join("test_batch.bin"), records).unwrap();
    bench.succeed(&[
        "evaluate",
        "partial",
        "--queries",
        "cifar10:batch3",
        "--gallery",
        "cifar10:test",
        "--resamples",
        "10",
    ]);
    let report = bench.read("runs/partial/compatibility.json");
    assert!(
        report.contains("cifar10/batch3 (20 of 10,000 images)"),
        "{report}"
    );
}

#[test]
fn sets_without_a_published_number_are_not_called_partial() {
    let bench = Bench::new();
    let shown = bench.answer(&["data", "show", "generated:test"]);
    assert!(shown.get("partial").is_none() && shown.get("official_images").is_none());
}
