//! scratch
#![allow(clippy::all, missing_docs)]
use perennial_train::*;
struct O(std::time::Instant);
impl Observer for O {
    fn epoch(&mut self, r: &EpochRecord) { println!("task {} epoch {} loss {:.4} acc {:.3} lr {:.5} img/s {:.0} t {:.0}s", r.task, r.epoch, r.loss, r.accuracy, r.learning_rate, r.images_per_second, self.0.elapsed().as_secs_f64()); }
    fn version(&mut self, t: usize, v: &perennial_core::ModelVersion) { println!("task {t} -> {}", v.name); }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let reg = perennial_core::Registry::create(&a[3]).unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    let text = std::fs::read_to_string(&a[2]).unwrap();
    let root = std::path::Path::new("/tmp/pdata");
    let mut o = O(std::time::Instant::now());
    let out = if a[1] == "pretrain" {
        let c: PretrainConfig = toml::from_str(&text).unwrap();
        let folder = std::path::PathBuf::from(&a[4]).join(&c.name); let resume = folder.exists();
        pretrain(&c, &RunPlaces { folder: &folder, registry: &reg, data_root: root, device: &device }, resume, &mut o)
    } else {
        let c: ExperimentConfig = toml::from_str(&text).unwrap();
        let folder = std::path::PathBuf::from(&a[4]).join(&c.name); let resume = folder.exists();
        train(&c, &RunPlaces { folder: &folder, registry: &reg, data_root: root, device: &device }, resume, &mut o)
    };
    println!("{:?}", out.map_err(|e| e.to_string()));
}
