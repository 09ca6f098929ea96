//! `--rate` holds: before the first wait is over, no more points are read than one batch of it.

use perennial_connect::ConnectError;
use perennial_connect::migrate::RunRequest;

use crate::cluster::cluster;
use crate::observers::ThirdAsking;
use crate::spaces::{request, run_quietly, run_watched};

#[test]
fn a_run_reads_one_batch_and_waits() {
    let cluster = cluster();
    cluster.items(100);
    // One point in 1,000 seconds.
    let slow = RunRequest {
        rate: Some(0.001),
        ..request(&cluster)
    };
    let mut observer = ThirdAsking::default();
    let error = run_watched(&cluster, &slow, &mut observer).unwrap_err();
    assert!(matches!(error, ConnectError::Interrupted), "{error}");
    let copies = cluster.points(&cluster.copies()).len() as u64;
    assert!(copies <= 1, "{copies}");
    // Without a rate nothing waits.
    let report = run_quietly(&cluster, &request(&cluster)).unwrap();
    assert_eq!(report.written, 100 - copies);
}
