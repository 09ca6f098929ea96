use perennial_gallery::ItemId;

use super::*;

fn part(hits: &[(u64, f32)], mean: f64, spread: f64, sample: usize) -> PartHits {
    let hits = hits.iter().map(|&(id, score)| Hit {
        id: ItemId::Number(id),
        score,
        model_version: "v0001".to_owned(),
        label: None,
        payload: serde_json::Map::new(),
    });
    PartHits {
        hits: hits.collect(),
        calibration: ScoreCalibration {
            mean,
            spread,
            sample,
        },
        scale: PartScale::Usual,
    }
}

#[test]
fn a_measured_merge_ranks_by_the_own_scale() {
    let own = || PartHits {
        scale: PartScale::Own,
        ..part(&[(1, 0.8), (2, 0.5)], 0.2, 0.1, 512)
    };
    // By standard scores, 3 would be first: nine deviations above the mean.
    let old = |scale| PartHits {
        scale,
        ..part(&[(3, 0.75), (4, 0.6)], 0.3, 0.05, 512)
    };
    let merged = merge(vec![own(), old(PartScale::Usual)], 10);
    assert_eq!(merged[0].hit.id, 3.into());
    assert!(merged.iter().all(|hit| hit.merged_score.is_none()));
    let cosines = PartScale::Measured(LinearScale::AS_THEY_ARE);
    let merged = merge(vec![own(), old(cosines)], 10);
    assert_eq!(order(&merged), [(1, 0), (3, 1), (4, 1), (2, 0)]);
    let calibrated = PartScale::Measured(LinearScale {
        slope: 2.0,
        intercept: -0.8,
    });
    // 0.75 becomes 0.7, and 0.6 becomes 0.4.
    let merged = merge(vec![own(), old(calibrated)], 10);
    assert_eq!(order(&merged), [(1, 0), (3, 1), (2, 0), (4, 1)]);
    assert!((merged[1].merged_score.unwrap() - 0.7).abs() < 1e-6);
    // A third part without a measurement: eight deviations above its mean are as good as 0.2 + 8 * 0.1.
    let third = part(&[(5, 0.9)], 0.1, 0.1, 512);
    let merged = merge(vec![own(), old(calibrated), third], 10);
    assert_eq!(merged[0].hit.id, 5.into());
    assert!((merged[0].merged_score.unwrap() - 1.0).abs() < 0.02);
    // Alone, similarities decide.
    let merged = merge(vec![old(calibrated)], 10);
    assert_eq!(merged[0].merged_score, None);
}

#[test]
fn an_item_that_two_parts_found_has_one_place() {
    let own = || PartHits {
        scale: PartScale::Own,
        ..part(&[(1, 0.5), (2, 0.3)], 0.1, 0.1, 512)
    };
    // Both better by their scores, and no longer true.
    let old = || part(&[(2, 0.9), (1, 0.8), (3, 0.2)], 0.1, 0.1, 512);
    let merged = merge(vec![old(), own()], 10);
    assert_eq!(order(&merged), [(1, 1), (2, 1), (3, 0)]);
    // So many items are given as were asked for.
    let merged = merge(vec![own(), old()], 3);
    assert_eq!(order(&merged), [(1, 0), (2, 0), (3, 1)]);
    let merged = merge(vec![old(), old()], 10);
    assert_eq!(order(&merged), [(2, 0), (1, 0), (3, 0)]);
}

#[test]
fn a_part_that_gains_standard_deviations_ranks_by_them() {
    let own = || PartHits {
        scale: PartScale::Own,
        ..part(&[(1, 0.6), (2, 0.3)], 0.1, 0.1, 512)
    };
    let old = |scale| PartHits {
        scale,
        ..part(&[(3, 0.8), (4, 0.5)], 0.3, 0.2, 512)
    };
    let place = |more: f64| {
        let merged = merge(vec![own(), old(PartScale::UsualAnd(more))], 10);
        merged.iter().position(|hit| hit.hit.id == 3.into())
    };
    // Five deviations above the mean against two and a half.
    assert_eq!(
        (place(0.0), place(2.0), place(3.0)),
        (Some(1), Some(1), Some(0))
    );
    let merged = merge(vec![own(), old(PartScale::UsualAnd(3.0))], 10);
    let (first, second) = (&merged[0], &merged[1]);
    assert!((second.merged_score.unwrap() - 0.6).abs() < 1e-6);
    assert!(first.merged_score.unwrap() > 0.6);
    // What is usual in the part stays what it is.
    assert!((first.standard_score - 2.5).abs() < 0.3);
    let merged = merge(vec![old(PartScale::UsualAnd(3.0))], 10);
    assert_eq!(merged[0].merged_score, None);
}

fn order(merged: &[MergedHit]) -> Vec<(u64, usize)> {
    let key = |one: &MergedHit| match one.hit.id {
        ItemId::Number(id) => (id, one.part),
        ref id => panic!("{id}"),
    };
    merged.iter().map(key).collect()
}

#[test]
fn parts_meet_by_how_unusual_their_hits_are() {
    // Cosines of the second space are all high, so its .7 is nothing unusual.
    let merged = merge(
        vec![
            part(&[(1, 0.5), (2, 0.25)], 0.1, 0.1, 1000),
            part(&[(3, 0.9), (4, 0.7)], 0.6, 0.1, 1000),
        ],
        10,
    );
    assert_eq!(order(&merged), [(1, 0), (3, 1), (2, 0), (4, 1)]);
    assert!((merged[0].standard_score - 4.0).abs() < 0.3);
    assert_eq!(merged[1].hit.score, 0.9);
}

#[test]
fn ties_keep_the_order_of_parts_and_hits_and_the_limit_holds() {
    let parts = || {
        vec![
            part(&[(5, 0.5), (9, 0.5)], 0.0, 0.5, 500),
            part(&[(1, 0.5), (2, 0.25)], 0.0, 0.5, 500),
        ]
    };
    assert_eq!(order(&merge(parts(), 3)), [(5, 0), (9, 0), (1, 1)]);
    assert_eq!(merge(parts(), 0), []);
    assert_eq!(merge(Vec::new(), 3), []);
    assert_eq!(
        order(&merge(vec![part(&[], 0.0, 1.0, 9), parts().remove(1)], 1)),
        [(1, 1)]
    );
}

#[test]
fn one_part_keeps_its_order_whatever_its_calibration() {
    for (mean, spread, sample) in [
        (0.1, 0.2, 1000),
        (0.1, 0.2, 1),
        (0.0, 0.0, 0),
        (0.4, 0.0, 1),
        (f64::NAN, 0.3, 5),
        (0.1, f64::INFINITY, 5),
        (0.1, -1.0, 5),
    ] {
        let hits = [(7, 0.9), (3, 0.5), (4, 0.5), (1, -0.2)];
        let merged = merge(vec![part(&hits, mean, spread, sample)], 4);
        assert_eq!(order(&merged), [(7, 0), (3, 0), (4, 0), (1, 0)]);
        assert!(merged.iter().all(|hit| hit.standard_score.is_finite()));
    }
    let merged = merge(vec![part(&[(1, 0.5)], 0.1, 0.2, 1000)], 1);
    assert!((merged[0].standard_score - 2.0).abs() < 1e-6);
}

#[test]
fn nothing_is_ever_not_a_number() {
    let merged = merge(
        vec![
            part(
                &[(1, f32::NAN), (2, f32::INFINITY), (3, 0.1)],
                0.0,
                0.0,
                200,
            ),
            part(&[(4, 0.2)], f64::NAN, f64::NAN, 200),
        ],
        10,
    );
    assert_eq!(order(&merged), [(3, 0), (4, 1)]);
    assert!(merged.iter().all(|hit| hit.standard_score == 0.0));
}

#[test]
fn the_first_item_of_a_new_space_is_found() {
    // Its own sample is itself, which says nothing.
    let alone = ScoreCalibration::of(&[1.0, 0.0], &[0.9, 0.1]);
    assert_eq!(alone, ScoreCalibration::default());
    let merged = merge(
        vec![
            part(&[(1, 0.6), (2, 0.5)], 0.1, 0.1, 1000),
            PartHits {
                calibration: alone,
                ..part(&[(3, 0.9)], 0.0, 0.0, 0)
            },
        ],
        10,
    );
    assert_eq!(order(&merged), [(3, 1), (1, 0), (2, 0)]);
    // One item in each of two spaces: their cosines decide.
    let single = |id, score| part(&[(id, score)], 0.0, 0.0, 0);
    let merged = merge(vec![single(1, 0.3), single(2, 0.9)], 10);
    assert_eq!(order(&merged), [(2, 1), (1, 0)]);
}

#[test]
fn the_first_items_of_a_space_of_low_cosines_are_found() {
    // Cosines of the old space are high; the third item of the new one is the answer, and the two beside it show that .6 is a lot there.
    let sample = [1.0, 0.0, 0.6, 0.8, 0.1, 0.99, 0.05, 0.99];
    let few = ScoreCalibration::of(&[1.0, 0.0], &sample[2..]);
    assert_eq!(few.sample, 2);
    let merged = merge(
        vec![
            part(&[(1, 0.8), (2, 0.75)], 0.7, 0.05, 512),
            PartHits {
                calibration: few,
                ..part(&[(3, 0.6), (4, 0.1)], 0.0, 0.0, 0)
            },
        ],
        10,
    );
    assert_eq!(order(&merged)[0], (3, 1), "{merged:?}");
    assert_eq!(order(&merged)[3], (4, 1), "{merged:?}");
}

#[test]
fn equal_items_say_nothing_of_their_part() {
    // 200 copies of one picture: their spread is rounding, and must not make the next copy unusual.
    let merged = merge(
        vec![
            part(&[(1, 0.6), (2, 0.5)], 0.1, 0.1, 1000),
            part(&[(3, 0.3)], 0.3, 1e-9, 200),
        ],
        10,
    );
    assert_eq!(order(&merged), [(1, 0), (2, 0), (3, 1)]);
    assert!(merged[2].standard_score < 3.0, "{merged:?}");
}

#[test]
fn similarities_decide_where_nothing_is_known() {
    let unknown = |id, score| part(&[(id, score)], 0.0, 0.0, 0);
    let merged = merge(vec![unknown(1, 0.3), unknown(2, 0.9)], 10);
    assert_eq!(order(&merged), [(2, 1), (1, 0)]);
}

#[test]
fn the_calibration_is_mean_and_deviation_of_the_similarities() {
    // The answer itself, which is left out, and four others.
    let sample = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.5, -0.5];
    let found = ScoreCalibration::of(&[1.0, 0.0], &sample);
    assert!((found.mean - 0.5).abs() < 1e-7);
    assert!((found.spread - 0.125f64.sqrt()).abs() < 1e-7);
    assert_eq!(found.sample, 4);
    for (query, sample) in [
        (&[][..], &[1.0][..]),
        (&[1.0, 0.0], &[]),
        (&[1.0, 0.0], &[1.0]),
    ] {
        assert_eq!(
            ScoreCalibration::of(query, sample),
            ScoreCalibration::default()
        );
    }
    let odd = ScoreCalibration::of(&[1.0], &[f32::NAN, 0.5, 0.75]);
    assert_eq!((odd.mean, odd.spread, odd.sample), (0.5, 0.0, 1));
}

#[test]
fn several_spaces_of_one_part_count_by_their_items() {
    let of = |mean, spread, sample| ScoreCalibration {
        mean,
        spread,
        sample,
    };
    let spaces = [(of(0.0, 1.0, 512), 3000), (of(0.4, 1.0, 512), 1000)];
    let both = ScoreCalibration::over_spaces(&spaces);
    assert!((both.mean - 0.1).abs() < 1e-12, "{both:?}");
    // Within the spaces, and between them: 3/4 0.1^2 + 1/4 0.3^2.
    assert!((both.spread.powi(2) - 1.03).abs() < 1e-12, "{both:?}");
    assert_eq!(both.sample, 1024);
    let one = of(0.2, 0.5, 7);
    assert_eq!(ScoreCalibration::over_spaces(&[(one, 7)]), one);
    let unknown = ScoreCalibration::default();
    assert_eq!(ScoreCalibration::over_spaces(&[]), unknown);
    let empty = [(unknown, 9), (unknown, 0)];
    assert_eq!(ScoreCalibration::over_spaces(&empty), unknown);
}
