//! Rows by slot and by number, their codes, and sets of slots.

use super::*;

fn row(number: u64, dim: usize) -> Row {
    let mut row = Row {
        number,
        version: (number % 3) as u32,
        label: number.is_multiple_of(2).then_some(number as u32),
        fingerprint: number,
        vector: vec![number as f32; dim],
        codes: Vec::new(),
        coding: Coding::default(),
    };
    row.encode();
    row
}

#[test]
fn rows_are_found_by_number_with_and_without_gaps() {
    let mut rows = Rows::new(20_000, true);
    assert_eq!((rows.slot(0), rows.first_slot_from(0)), (None, 0));
    let numbers: Vec<u64> = (5..200).chain(300..350).collect();
    for &number in &numbers {
        rows.push(&row(number, 20_000));
    }
    assert!(rows.segments().len() > 2);
    for (slot, &number) in numbers.iter().enumerate() {
        assert_eq!(rows.slot(number), Some(slot));
        assert_eq!(rows.first_slot_from(number), slot);
        let (segment, at) = rows.place(slot);
        assert_eq!(
            segment.label(at),
            number.is_multiple_of(2).then_some(number as u32)
        );
    }
    for missing in [0, 4, 200, 299, 350, u64::MAX] {
        assert_eq!(rows.slot(missing), None);
    }
    assert_eq!(rows.first_slot_from(250), 195);
    assert_eq!(rows.first_slot_from(400), rows.slots());
}

#[test]
fn codes_of_all_rows_are_those_that_rows_get_one_by_one() {
    let dim = 40_000;
    let (mut one_by_one, mut uncoded) = (Rows::new(dim, true), Rows::new(dim, true));
    let full = one_by_one.segment_rows();
    for number in 0..(full + full / 2) as u64 {
        let row = row(number, dim);
        one_by_one.push(&row);
        uncoded.push_uncoded(row.properties(), &row.vector);
    }
    one_by_one.set_centred(one_by_one.centred());
    let compact = uncoded.compacted();
    let mut segments = uncoded.segments;
    segments.iter_mut().for_each(|segment| segment.encode(full));
    let at_once = Rows::of_segments(dim, true, segments);
    assert_eq!(at_once.per_version, one_by_one.per_version);
    assert_eq!(
        (at_once.slots(), &at_once.alive),
        (one_by_one.slots(), &one_by_one.alive)
    );
    for rows in [&at_once, &compact] {
        assert_eq!(rows.segments().len(), 2);
        for (segment, expected) in rows.segments().iter().zip(one_by_one.segments()) {
            assert_eq!(segment.coded.is_centred(), segment.len() == full);
            assert_eq!(segment.coded.codes, expected.coded.codes);
            assert_eq!(segment.coded.codings, expected.coded.codings);
        }
    }
}

#[test]
fn dead_rows_are_uncounted_and_compacted_away() {
    let mut rows = Rows::new(10_000, false);
    for number in 0..300 {
        rows.push(&row(number, 10_000));
    }
    for number in (0..300).filter(|n| n % 4 != 0) {
        assert!(rows.remove(number) && !rows.remove(number));
    }
    assert_eq!((rows.live(), rows.slots()), (75, 300));
    assert!(rows.is_wasteful());
    let compact = rows.compacted();
    assert_eq!((compact.live(), compact.slots()), (75, 75));
    assert_eq!(compact.per_version(), rows.per_version());
    assert_eq!(compact.per_version().iter().sum::<u64>(), 75);
    assert_eq!(compact.slot(4), Some(1));
    assert_eq!(compact.vector(1)[0], 4.0);
    assert!(!compact.is_wasteful());
}

#[test]
fn slot_sets_iterate_in_order() {
    let mut set = SlotSet::default();
    for slot in [200, 0, 63, 64, 200] {
        set.insert(slot);
    }
    assert_eq!(set.count(), 4);
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 200]);
    assert!(set.remove(63) && !set.remove(63) && !set.contains(9999));
    assert_eq!(set.count(), 3);
}
