//! Bridges and certificates, with their checksums put right.

use perennial_bridge::{BRIDGE_FILE, Bridge, WEIGHTS_FILE};
use perennial_core::sha256_hex;
use perennial_upgrade::Certificate;

use crate::Target;
use crate::scratch::Scratch;

/// Between `bridge.toml` and the weights.
const SEPARATOR: &[u8] = b"\n%%\n";
/// Stands for the checksum of the weights, or of a certificate.
pub(crate) const CHECKSUM: &str = "@CHECKSUM@";
/// Wider bridges are read, but not applied.
const MAX_DIM: usize = 64;

/// The two files of a bridge's folder.
pub struct BridgeFolder(Scratch);

impl Target for BridgeFolder {
    fn new() -> Self {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join("read")).unwrap();
        Self(scratch)
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let end = bytes.windows(SEPARATOR.len()).position(|w| w == SEPARATOR);
        let Some(end) = end else {
            return false;
        };
        let (toml, weights) = (&bytes[..end], &bytes[end + SEPARATOR.len()..]);
        let toml = match std::str::from_utf8(toml) {
            Ok(text) => text.replace(CHECKSUM, &sha256_hex(weights)).into_bytes(),
            Err(_) => toml.to_vec(),
        };
        let [read, written] = ["read", "written"].map(|folder| self.0.path().join(folder));
        std::fs::write(read.join(BRIDGE_FILE), toml).unwrap();
        std::fs::write(read.join(WEIGHTS_FILE), weights).unwrap();
        let Ok(bridge) = Bridge::read(&read) else {
            return false;
        };
        bridge.write(&written).unwrap();
        assert_eq!(Bridge::read(&written).unwrap(), bridge);
        std::fs::remove_dir_all(&written).unwrap();
        let (from, to) = (bridge.from().dim, bridge.to().dim);
        if from.max(to) <= MAX_DIM {
            let rows: Vec<f32> = (0..3 * from)
                .map(|place| (place % 7) as f32 - 2.5)
                .collect();
            let mut mapped = Vec::new();
            match bridge.apply(&rows, &mut mapped) {
                Ok(()) => assert_eq!(mapped.len(), 3 * to),
                Err(_) => assert!(mapped.is_empty()),
            }
            for row in mapped.chunks_exact(to) {
                let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
                assert!((length - 1.0).abs() < 1e-3, "{length}");
            }
        }
        true
    }
}

/// A certificate.
pub struct Certificates;

impl Target for Certificates {
    fn new() -> Self {
        Self
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let read = Certificate::parse(bytes).or_else(|problem| {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            let hash = content_hash(&problem).ok_or(problem.as_str())?;
            Certificate::parse(text.replace(CHECKSUM, hash).as_bytes())
        });
        let Ok(certificate) = read else {
            return false;
        };
        let text = certificate.to_json();
        assert_eq!(Certificate::parse(text.as_bytes()).unwrap(), certificate);
        let _ = (certificate.obstacle(), certificate.sha256());
        true
    }
}

/// The hash of a certificate's content, out of the message that it states another one.
fn content_hash(problem: &str) -> Option<&str> {
    let (_, rest) = problem.split_once("its content has the hash ")?;
    let (hash, _) = rest.split_once(", but it states ")?;
    Some(hash)
}
