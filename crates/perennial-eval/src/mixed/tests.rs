use super::*;

const CALIBRATIONS: [LogisticCalibration; 2] = [
    LogisticCalibration {
        slope: 2.0,
        intercept: -1.0,
        log_loss: 0.0,
    },
    LogisticCalibration {
        slope: 0.5,
        intercept: 0.25,
        log_loss: 0.0,
    },
];

#[test]
fn partitions_that_do_not_fit_are_named() {
    let none: [Vec<u32>; 1] = [vec![]];
    let relevance = Relevance::Items(&none);
    let part = |positions: &'static [u32]| Partition {
        queries: &[1.0],
        gallery: &[1.0, 2.0],
        dim: 1,
        positions,
    };
    let error = |partitions: &[Partition<'_>], merge: Merge<'_>| {
        let test = MixedTest {
            partitions,
            relevance: &relevance,
            own: None,
            first: 1,
        };
        mixed_outcomes(&test, merge).unwrap_err()
    };
    assert_eq!(error(&[], Merge::Scores), MixedError::NoPartitions);
    let twice = [part(&[0, 1]), part(&[1, 2])];
    assert_eq!(
        error(&twice, Merge::Scores),
        MixedError::Position {
            partition: 1,
            position: 1,
            items: 4
        }
    );
    assert!(matches!(
        error(&[part(&[0])], Merge::Scores),
        MixedError::PositionCount { items: 2, .. }
    ));
    assert!(matches!(
        error(&[part(&[0, 2])], Merge::Scores),
        MixedError::Position { position: 2, .. }
    ));
    let other = Partition {
        queries: &[1.0, 2.0],
        ..part(&[2, 3])
    };
    assert!(matches!(
        error(&[part(&[0, 1]), other], Merge::Scores),
        MixedError::Queries {
            partition: 1,
            found: 2,
            expected: 1
        }
    ));
    let odd = Partition {
        gallery: &[f32::NAN, 1.0],
        ..part(&[2, 3])
    };
    assert!(matches!(
        error(&[part(&[0, 1]), odd], Merge::Scores),
        MixedError::Search { partition: 1, .. }
    ));
    assert_eq!(
        error(&[part(&[0, 1])], Merge::Calibrated(&CALIBRATIONS)),
        MixedError::Calibrations {
            found: 2,
            expected: 1
        }
    );
    let test = MixedTest {
        partitions: &[part(&[0, 1])],
        relevance: &relevance,
        own: None,
        first: 1,
    };
    let shifted = ShiftedMerge {
        merge: Merge::Scores,
        shifts: &[0.5, 0.0],
    };
    assert_eq!(
        mixed_outcomes(&test, shifted).unwrap_err(),
        MixedError::Shifts {
            found: 2,
            expected: 1
        }
    );
}
