//! The seeds: what they are made of, and that every target takes them.

mod encoders;
mod gallery;
mod http;
mod images;
mod mutations;
mod registry;
mod text_files;
mod upgrades;
mod upstreams;
mod vectors;

use std::path::{Path, PathBuf};

use perennial_formats::Format;

use self::encoders::{
    canary_seeds, head_seeds, hub_folder_seeds, onnx_seeds, token_table_seeds, tokenizer_seeds,
};
use self::gallery::{filter_seeds, record_seeds, snapshot_seeds};
use self::http::http_seeds;
use self::images::{idx_seeds, image_seeds, labelled_record_seeds, preparation_seeds};
use self::registry::{alias_seeds, compatibility_seeds, model_seeds};
use self::text_files::{list_seeds, slot_seeds};
use self::upgrades::{bridge_seeds, certificate_seeds};
use self::upstreams::upstream_seeds;
use self::vectors::{
    column_seeds, csv_seeds, embeddings_seeds, jsonl_seeds, judgement_seeds, npy_seeds,
    vector_seeds,
};
use crate::*;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target)
}

/// A target's seeds, in the order of their names.
fn stored(target: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 1, "{target} has no seeds");
    files
}

/// Runs a target on its seeds: those whose names start with `refused` must be, all others must not.
fn check<T: Target>(target: &str) {
    let mut tested = T::new();
    for file in stored(target) {
        let accepted = tested.run(&std::fs::read(&file).unwrap());
        let refused = file
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("refused");
        assert_eq!(accepted, !refused, "{}", file.display());
    }
}

fn check_mutated<T: Target>(target: &str) {
    let seeds: Vec<Vec<u8>> = stored(target)
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    mutations::run::<T>(target, &seeds);
}

/// Two tests for each target.
mod each {
    use super::*;

    macro_rules! seeds_pass {
        ($($name:ident: $target:ty,)*) => {
            $(
                #[test]
                fn $name() {
                    check::<$target>(stringify!($name));
                }
            )*

            /// On changed seeds.
            mod mutated {
                use super::*;

                $(
                    #[test]
                    fn $name() {
                        check_mutated::<$target>(stringify!($name));
                    }
                )*
            }
        };
    }

    seeds_pass! {
        aliases: Aliases,
        bridge: BridgeFolder,
        canaries: Canaries,
        certificate: Certificates,
        columns: Columns,
        compatibility: Compatibility,
        csv: Csv,
        embeddings: EmbeddingsFile,
        filter: Filters,
        gallery_record: Records,
        head: HeadFile,
        http: Http,
        hub_folder: HubFolder,
        idx: Idx,
        image: Image,
        image_lists: ImageLists,
        jsonl: Jsonl,
        judgements: RelevanceJudgements,
        labelled_records: LabelledRecords,
        model_toml: ModelToml,
        npy: Npy,
        npz: Npz,
        onnx: Onnx,
        parquet: Parquet,
        preparation: Preparation,
        safetensors: Safetensors,
        slots: Slots,
        snapshot: Snapshots,
        token_table: TableFile,
        tokenizer: TokenizerFile,
        upstream_answers: UpstreamAnswers,
    }
}

#[test]
fn every_binary_has_seeds() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets");
    for target in std::fs::read_dir(targets).unwrap() {
        let name = target.unwrap().path().file_stem().unwrap().to_owned();
        assert!(folder(name.to_str().unwrap()).is_dir(), "{name:?}");
    }
}

/// Writes all seeds anew, except those of Parquet, which `parquet-seeds.py` writes with another library than the one that reads them.
#[test]
#[ignore = "changes fuzz/seeds"]
fn write_seeds() {
    let seeds = [
        ("aliases", alias_seeds()),
        ("bridge", bridge_seeds()),
        ("canaries", canary_seeds()),
        ("certificate", certificate_seeds()),
        ("columns", column_seeds()),
        ("compatibility", compatibility_seeds()),
        ("csv", csv_seeds()),
        ("embeddings", embeddings_seeds()),
        ("filter", filter_seeds()),
        ("gallery_record", record_seeds()),
        ("head", head_seeds()),
        ("http", http_seeds()),
        ("hub_folder", hub_folder_seeds()),
        ("idx", idx_seeds()),
        ("image", image_seeds()),
        ("image_lists", list_seeds()),
        ("jsonl", jsonl_seeds()),
        ("judgements", judgement_seeds()),
        ("labelled_records", labelled_record_seeds()),
        ("model_toml", model_seeds()),
        ("npy", npy_seeds()),
        ("npz", vector_seeds(Format::Npz)),
        ("onnx", onnx_seeds()),
        ("preparation", preparation_seeds()),
        ("safetensors", vector_seeds(Format::Safetensors)),
        ("slots", slot_seeds()),
        ("snapshot", snapshot_seeds()),
        ("token_table", token_table_seeds()),
        ("tokenizer", tokenizer_seeds()),
        ("upstream_answers", upstream_seeds()),
    ];
    for (target, files) in seeds {
        let folder = folder(target);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

type Seeds = Vec<(&'static str, Vec<u8>)>;
