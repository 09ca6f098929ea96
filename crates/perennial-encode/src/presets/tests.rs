use std::path::Path;

use proptest::prelude::*;

use super::*;

fn read(json: &str) -> ImagePreparation {
    preparation_from_json("preprocessor_config.json", json).unwrap()
}

#[track_caller]
fn refused(json: &str, message: &str) {
    let error = preparation_from_json("config.json", json).unwrap_err();
    assert!(error.to_string().contains(message), "{error}");
    assert!(error.to_string().contains("config.json"), "{error}");
}

const CLIP: &str = r#"{
    "crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3, "size": 224
}"#;

#[test]
fn presets_are_what_their_libraries_do() {
    let timm = preset("timm", None).unwrap();
    assert_eq!(
        (timm.size, timm.resize),
        ([224, 224], Resize::ShortestSide(256))
    );
    assert_eq!(timm.interpolation, Interpolation::Bicubic);
    let torchvision = preset("torchvision", Some(299)).unwrap();
    assert_eq!(torchvision.resize, Resize::ShortestSide(341));
    assert_eq!(
        (torchvision.interpolation, torchvision.mean),
        (Interpolation::Bilinear, timm.mean)
    );
    let clip = preset("clip", Some(336)).unwrap();
    assert_eq!(
        (clip.size, clip.resize),
        ([336, 336], Resize::ShortestSide(336))
    );
    assert!(
        preset("CLIP", None)
            .unwrap_err()
            .to_string()
            .contains("timm, torchvision, clip")
    );
    assert!(
        preset("clip", Some(0))
            .unwrap_err()
            .to_string()
            .contains("0 x 0")
    );
    assert!(preset("timm", Some(usize::MAX)).is_err());
}

#[test]
fn clip_of_either_form_is_the_preset() {
    let expected = preset("clip", None).unwrap();
    assert_eq!(read(CLIP), expected);
    let newer = r#"{"image_processor": {
        "crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true,
        "do_rescale": true, "do_resize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "CLIPImageProcessorFast", "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 224}, "data_format": "channels_first"
    }}"#;
    assert_eq!(read(newer), expected);
}

#[test]
fn vision_transformers_scale_both_sides() {
    let old = read(
        r#"{"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": 224,
            "feature_extractor_type": "ViTFeatureExtractor"}"#,
    );
    assert_eq!((old.resize, old.size), (Resize::Exact, [224, 224]));
    assert_eq!(
        (old.interpolation, old.mean.clone()),
        (Interpolation::Bilinear, vec![0.5; 3])
    );
    let new = r#"{"do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5], "image_processor_type": "ViTImageProcessor", "resample": 2,
        "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224}}"#;
    assert_eq!(read(new), old);
}

#[test]
fn dinov2_crops_after_a_longer_side() {
    let spec = read(
        r#"{"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true,
            "do_rescale": true, "do_resize": true, "image_mean": [0.485, 0.456, 0.406],
            "image_processor_type": "BitImageProcessor", "image_std": [0.229, 0.224, 0.225], "resample": 3,
            "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256}}"#,
    );
    assert_eq!(spec, preset("timm", None).unwrap());
}

#[test]
fn convnext_crops_small_pictures_only() {
    let config = |size: &str| {
        format!(
            r#"{{"crop_pct": 0.875, "do_normalize": true, "do_resize": true, "feature_extractor_type": "ConvNextFeatureExtractor",
                "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3, "size": {size}}}"#
        )
    };
    assert_eq!(read(&config("224")), preset("timm", None).unwrap());
    assert_eq!(
        read(&config(r#"{"shortest_edge": 224}"#)),
        preset("timm", None).unwrap()
    );
    let large = read(&config("384"));
    assert_eq!((large.resize, large.size), (Resize::Exact, [384, 384]));
}

#[test]
fn mobile_vit_wants_blue_first() {
    let spec = read(
        r#"{"crop_size": {"height": 256, "width": 256}, "do_center_crop": true, "do_flip_channel_order": true, "do_rescale": true,
            "do_resize": true, "image_processor_type": "MobileViTImageProcessor", "resample": 2,
            "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 288}}"#,
    );
    assert_eq!(
        (spec.channels, spec.resize),
        (ChannelOrder::Bgr, Resize::ShortestSide(288))
    );
    assert_eq!((spec.mean, spec.std), (vec![0.0; 3], vec![1.0; 3]));
}

#[test]
fn timm_is_read_from_both_of_its_files() {
    let inner = r#"{"input_size": [3, 256, 256], "test_input_size": [3, 320, 320], "interpolation": "bicubic",
        "crop_pct": 0.95, "crop_mode": "center", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "num_classes": 1000}"#;
    let spec = preparation_from_json("data_config.json", inner).unwrap();
    // floor(256 / 0.95)
    assert_eq!(
        (spec.resize, spec.size),
        (Resize::ShortestSide(269), [256, 256])
    );
    let outer = format!(
        r#"{{"architecture": "resnet50", "num_features": 2048, "pretrained_cfg": {inner}}}"#
    );
    assert_eq!(preparation_from_json("config.json", &outer).unwrap(), spec);
    let squash = r#"{"input_size": [3, 224, 288], "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"}"#;
    let squash = preparation_from_json("data_config.json", squash).unwrap();
    assert_eq!((squash.resize, squash.size), (Resize::Exact, [224, 288]));
    assert_eq!(squash.std, IMAGENET_STD);
}

#[test]
fn what_is_not_supported_is_named() {
    let change = |from: &str, to: &str| {
        assert!(CLIP.contains(from));
        CLIP.replace(from, to)
    };
    refused("", "no JSON");
    refused("[]", "does not say how pictures are prepared");
    refused(
        r#"{"architectures": ["BertModel"]}"#,
        "does not say how pictures are prepared",
    );
    refused(
        &change(r#""size": 224"#, r#""size": "224""#),
        "size must be a whole number",
    );
    refused(
        &change(r#""size": 224"#, r#""size": {"longest_edge": 224}"#),
        "size.longest_edge",
    );
    refused(
        &change(r#""size": 224"#, r#""size": {"shortest_edge": 0}"#),
        "shortest_side is 0",
    );
    refused(
        &change(r#""size": 224"#, r#""size": {}"#),
        "size must have either",
    );
    refused(&change(r#""crop_size": 224, "#, ""), "crop_size is missing");
    refused(
        &change(r#""do_center_crop": true"#, r#""do_center_crop": 1"#),
        "do_center_crop must be true or false",
    );
    refused(
        &change(r#""do_center_crop": true"#, r#""do_center_crop": false"#),
        "do_center_crop must be true",
    );
    refused(
        &change(r#""resample": 3"#, r#""resample": 5"#),
        "resample is 5",
    );
    refused(
        &change(r#""resample": 3"#, r#""do_pad": true"#),
        "do_pad is true",
    );
    refused(
        &change("CLIPFeatureExtractor", "DonutFeatureExtractor"),
        "feature_extractor_type",
    );
    refused(
        &change(r#""do_resize": true"#, r#""do_resize": false"#),
        "do_resize is false",
    );
    refused(
        &change(r#""do_resize": true"#, r#""rescale_offset": true"#),
        "rescale_offset is true",
    );
    refused(
        &change(r#""do_resize": true"#, r#""rescale_factor": 1e999"#),
        "no JSON",
    );
    refused(
        &change(r#""do_resize": true"#, r#""rescale_factor": 0"#),
        "scale is 0",
    );
    refused(
        &change(r#""do_resize": true"#, r#""crop_pct": 0.9"#),
        "crop_pct is not supported",
    );
    refused(
        &change(r#"[0.48145466, 0.4578275, 0.40821073]"#, "[0.5]"),
        "mean has 1 values",
    );
    refused(
        &change(
            r#"[0.48145466, 0.4578275, 0.40821073]"#,
            r#"[0.5, 0.5, "x"]"#,
        ),
        "image_mean must be a list",
    );
    refused(
        &change("CLIPFeatureExtractor", "DeiTFeatureExtractor")
            .replace(r#""size": 224"#, r#""size": 256"#),
        "crop_size differs",
    );
    let timm =
        |rest: &str| format!(r#"{{"pretrained_cfg": {{"input_size": [3, 224, 224]{rest}}}}}"#);
    refused(
        &timm(r#", "interpolation": "hamming""#),
        "pretrained_cfg.interpolation",
    );
    refused(
        &timm(r#", "crop_mode": "border""#),
        "pretrained_cfg.crop_mode",
    );
    refused(&timm(r#", "crop_mode": "squash""#), "crop_pct must be 1");
    refused(&timm(r#", "crop_pct": 0"#), "crop_pct is 0");
    refused(&timm(r#", "std": [0, 1, 1]"#), "std is 0");
    refused(
        r#"{"pretrained_cfg": {"mean": [0, 0, 0]}}"#,
        "input_size is missing",
    );
    refused(r#"{"input_size": [4, 224, 224]}"#, "input_size must be");
    refused(
        r#"{"input_size": [3, 224, 192]}"#,
        "input_size is no square",
    );
    refused(r#"{"input_size": [3, 99999, 99999]}"#, "99999 x 99999");
}

#[test]
fn files_are_bounded() {
    let missing = from_config(Path::new("no such folder/config.json")).unwrap_err();
    assert!(missing.to_string().contains("no such folder"), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, " ".repeat(MAX_BYTES as usize + 1)).unwrap();
    let large = from_config(&path).unwrap_err();
    assert!(large.to_string().contains("more than the limit"), "{large}");
}

proptest! {
    /// Whatever is written: an error, or a preparation that can be carried out.
    #[test]
    fn nothing_panics(
        size in prop_oneof![Just("224".to_owned()), Just("{\"shortest_edge\": 18446744073709551615}".to_owned()), any::<u64>().prop_map(|n| n.to_string())],
        crop in prop_oneof![Just("null".to_owned()), any::<f64>().prop_map(|n| format!("{n:e}"))],
        mean in prop::collection::vec(any::<f32>(), 0..5),
    ) {
        let json = format!(r#"{{"size": {size}, "resample": 2, "crop_pct": {crop}, "image_mean": {mean:?}, "image_std": [1, 1, 1]}}"#);
        if let Ok(spec) = preparation_from_json("preprocessor_config.json", &json) {
            prop_assert!(check_preparation(&spec).is_ok());
        }
    }
}
