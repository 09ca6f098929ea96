//! The second stage of a search: hits whose similarity to the query is known in one space are put in its order.

/// Puts hits in the order of their own similarities: those that the query's version has measured itself, in its own space.
///
/// Hits with an own similarity share out among themselves the places that they have, the most similar first; equal ones stay in the order that
/// they had. Hits without one (`None`, or a value that is not finite) keep their places: their scores are on another scale, and that an original
/// could not be fetched does not make its item a worse answer.
pub fn rerank<T>(hits: Vec<(T, Option<f32>)>) -> Vec<(T, Option<f32>)> {
    let is_known = |own: &Option<f32>| own.is_some_and(f32::is_finite);
    let known: Vec<bool> = hits.iter().map(|(_, own)| is_known(own)).collect();
    let (mut ranked, rest): (Vec<_>, Vec<_>) = hits.into_iter().partition(|(_, own)| is_known(own));
    // Stable. The default is never used: all of these are known.
    ranked.sort_by(|one, other| {
        let own = |hit: &(T, Option<f32>)| hit.1.unwrap_or(f32::NEG_INFINITY);
        own(other).total_cmp(&own(one))
    });
    let (mut ranked, mut rest) = (ranked.into_iter(), rest.into_iter());
    let next = known.into_iter().map(|known| match known {
        true => ranked.next(),
        false => rest.next().map(|(hit, _)| (hit, None)),
    });
    next.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(own: &[Option<f32>]) -> Vec<usize> {
        let hits = own.iter().copied().enumerate();
        rerank(hits.collect())
            .into_iter()
            .map(|(hit, _)| hit)
            .collect()
    }

    #[test]
    fn known_similarities_decide_and_unknown_ones_keep_their_places() {
        assert_eq!(order(&[Some(0.1), Some(0.9), Some(0.5)]), [1, 2, 0]);
        assert_eq!(
            order(&[Some(0.1), None, Some(0.9), None, Some(0.5)]),
            [2, 1, 4, 3, 0]
        );
        assert_eq!(order(&[None, Some(-0.5), None]), [0, 1, 2]);
        assert_eq!(order(&[None, None]), [0, 1]);
        assert_eq!(order(&[]), [0usize; 0]);
    }

    #[test]
    fn equal_ones_stay_in_their_order_and_what_is_no_number_is_unknown() {
        assert_eq!(order(&[Some(0.5), Some(0.5), Some(0.7)]), [2, 0, 1]);
        assert_eq!(
            order(&[Some(f32::NAN), Some(0.1), Some(f32::INFINITY), Some(0.2)]),
            [0, 3, 2, 1]
        );
        let hits = rerank(vec![("a", Some(f32::NAN)), ("b", Some(1.0))]);
        assert_eq!(hits, [("a", None), ("b", Some(1.0))]);
    }

    #[test]
    fn nothing_is_lost_or_doubled() {
        let hits: Vec<(usize, Option<f32>)> = (0..100)
            .map(|place| (place, (place % 3 != 0).then(|| (place * 37 % 101) as f32)))
            .collect();
        let mut after: Vec<usize> = rerank(hits.clone())
            .into_iter()
            .map(|(hit, _)| hit)
            .collect();
        for (place, hit) in after.iter().enumerate().filter(|(place, _)| place % 3 == 0) {
            assert_eq!(place, *hit);
        }
        after.sort_unstable();
        assert!(after.into_iter().eq(0..100));
    }
}
