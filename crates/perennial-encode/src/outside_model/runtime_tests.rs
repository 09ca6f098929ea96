//! The same graphs in both runtimes. onnxruntime's library is the one that `PERENNIAL_ONNXRUNTIME` names; without it, only rten runs.

use super::tests::*;
use super::*;
use perennial_core::Pooling;

/// The runtimes of this build and machine.
fn runtimes() -> Vec<GraphRuntime> {
    let mut runtimes = vec![GraphRuntime::Rten];
    match (
        cfg!(feature = "onnxruntime"),
        std::env::var_os("PERENNIAL_ONNXRUNTIME"),
    ) {
        (false, _) => eprintln!("onnxruntime: skipped, not in this build"),
        (true, None) => {
            eprintln!("onnxruntime: skipped, PERENNIAL_ONNXRUNTIME names no library");
        }
        (true, Some(library)) => runtimes.push(GraphRuntime::Onnxruntime(library.into())),
    }
    runtimes
}

#[test]
fn pictures_have_the_same_embeddings() {
    let expected = golden("pictures").concat();
    for runtime in runtimes() {
        // One of them takes one picture at a time, and the data of one lie in a file beside it.
        for file in ["picture.onnx", "single.onnx", "external.onnx"] {
            let model = pictures_in(file, &runtime).unwrap();
            assert_near(&model.encode(&pixels()).unwrap(), &expected, 2e-6);
        }
    }
}

#[test]
fn texts_have_the_same_embeddings_whatever_the_batch() {
    for runtime in runtimes() {
        for (pooling, key) in [
            (Pooling::Mean, "mean"),
            (Pooling::Cls, "cls"),
            (Pooling::LastToken, "last_token"),
        ] {
            let model = texts_in("text.onnx", pooling, &runtime).unwrap();
            let expected = golden(key);
            assert_near(&model.encode(&tokens()).unwrap(), &expected.concat(), 2e-6);
            for (text, expected) in tokens().iter().zip(&expected) {
                let alone = model.encode(std::slice::from_ref(text)).unwrap();
                assert_near(&alone, expected, 2e-6);
            }
        }
    }
}

#[test]
fn scales_over_the_batch_mix_no_inputs() {
    let expected = golden("dynamic").concat();
    for runtime in runtimes() {
        let model = texts_in("dynamic.onnx", Pooling::Mean, &runtime).unwrap();
        let together = model.encode(&tokens()).unwrap();
        // An activation that another processor rounds to the next byte moves a value by 5e-3.
        assert_near(&together, &expected, 2e-2);
        for (text, together) in tokens().iter().zip(together.chunks_exact(6)) {
            assert_eq!(model.encode(std::slice::from_ref(text)).unwrap(), together);
        }
    }
}

#[test]
fn towers_of_one_graph_need_no_inputs_of_each_other() {
    let mut rows: Vec<Vec<f32>> = Vec::new();
    for runtime in runtimes() {
        let image = graph("towers.onnx", "image_embeds", Pooling::None);
        let text = graph("towers.onnx", "text_embeds", Pooling::None);
        let both = encoder(Some(image.clone()), Some(text));
        let pictures = encoder(Some(image), None);
        let load = |spec| OutsideModel::load("v0001", 4, spec, &folder(), &runtime).unwrap();
        let (both, pictures) = (load(&both), load(&pictures));
        let batch = [pixels().remove(0), tokens().remove(0)];
        let row = both.encode(&batch).unwrap();
        assert_eq!(pictures.encode(&batch[..1]).unwrap(), row[..4]);
        rows.push(row);
    }
    for row in &rows[1..] {
        assert_near(row, &rows[0], 2e-6);
    }
}

#[test]
fn unknown_operators_are_named_all_at_once() {
    for runtime in runtimes() {
        let error = pictures_in("unsupported.onnx", &runtime).err().unwrap();
        let error = error.to_string();
        // Which of the others are known is up to the runtime.
        assert!(error.contains("com.example.Sharpen"), "{error}");
        assert!(!error.contains("Relu"), "{error}");
        assert!(error.contains("not supported"), "{error}");
    }
}

#[test]
fn files_are_checked_before_any_runtime_sees_them() {
    for runtime in runtimes() {
        for (file, part) in [("huge.onnx", "ConstantOfShape"), ("old.onnx", "version 6")] {
            let error = pictures_in(file, &runtime).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn wrong_inputs_are_errors_of_the_run() {
    for runtime in runtimes() {
        let model = texts_in("text.onnx", Pooling::Mean, &runtime).unwrap();
        // Beyond the table: refused by position, before the run.
        let batch = [Prepared {
            values: Values::Tokens(vec![18]),
        }];
        let error = model.encode(&batch).unwrap_err();
        assert!(matches!(error, EncodeError::Prepared { input: 0, .. }));
        // A picture that is not a number has no direction.
        let model = pictures_in("picture.onnx", &runtime).unwrap();
        let batch = [Prepared {
            values: Values::Pixels(vec![f32::NAN; 3 * 64]),
        }];
        let error = model.encode(&batch).unwrap_err();
        assert_eq!(error, EncodeError::NonFinite { input: 0 });
    }
}

#[test]
fn threads_share_a_model() {
    for runtime in runtimes() {
        let (model, batch) = (pictures_in("picture.onnx", &runtime).unwrap(), pixels());
        let whole = model.encode(&batch).unwrap();
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| model.encode(&batch).unwrap()))
                .collect();
            for run in runs {
                assert_eq!(run.join().unwrap(), whole);
            }
        });
    }
}

#[test]
fn an_import_runs_in_the_runtime_that_is_asked_for() {
    use crate::import::{ImportOptions, PreparationChoice, read};

    for runtime in runtimes() {
        let options = ImportOptions {
            preparation: Some(PreparationChoice::Preset("clip".to_owned(), Some(8))),
            runtime: runtime.clone(),
            ..ImportOptions::default()
        };
        let imported = read(&folder().join("external.onnx"), &options).unwrap();
        assert_eq!(imported.dim, 4);
        let said = imported
            .findings
            .iter()
            .any(|finding| finding.starts_with("runs in onnxruntime 1."));
        assert_eq!(
            said,
            runtime != GraphRuntime::Rten,
            "{:?}",
            imported.findings
        );
    }
}
