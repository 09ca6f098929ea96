//! From a graph's output to one unit vector an input.

use perennial_core::Pooling;

use super::run::Output;

/// The output of a graph does not have the shape that its pooling needs; what to do is in the text.
pub(crate) type Problem = String;

/// One vector an input.
///
/// **Shapes**: the output is `[batch, d]`, `[batch, positions, d]`, `[batch, d, h, w]`; `lengths` has a number of positions that count for every
/// input (`None` for pictures: all of them). The result is `[batch, d]`, not normalised.
///
/// # Errors
/// A description of what does not fit.
pub(crate) fn pool(
    output: &Output,
    batch: usize,
    lengths: Option<&[usize]>,
    pooling: Pooling,
) -> Result<Vec<f32>, Problem> {
    let values = &output.values;
    match (pooling, output.shape.as_slice()) {
        (_, [rows, ..]) if *rows != batch => Err(format!("it has {rows} rows for a batch of {batch}")),
        (Pooling::None, [_, _] | [_, _, 1, 1]) => Ok(values.clone()),
        // Every pooling of a single position is that position.
        (Pooling::None, [_, 1, _]) => Ok(values.clone()),
        (Pooling::None, [_, _, _]) => {
            Err("it holds one vector a position; choose how they become one: pooling mean, cls or last_token".to_owned())
        }
        (Pooling::None, [_, _, _, _]) => {
            Err("it holds one vector for every place of the picture; choose pooling mean, or another output".to_owned())
        }
        (Pooling::Mean, [_, d, height, width]) => Ok(over_places(values, *d, height * width)),
        (_, [_, positions, d]) => over_positions(values, [*positions, *d], lengths, pooling),
        (pooling, _) => Err(format!("pooling {pooling:?} does not apply to it; use pooling none")),
    }
}

/// Mean over height and width.
fn over_places(values: &[f32], d: usize, places: usize) -> Vec<f32> {
    if d == 0 || places == 0 {
        return Vec::new();
    }
    let mean =
        |plane: &[f32]| plane.iter().map(|&value| f64::from(value)).sum::<f64>() / places as f64;
    values
        .chunks_exact(places)
        .map(|plane| mean(plane) as f32)
        .collect()
}

fn over_positions(
    values: &[f32],
    [positions, d]: [usize; 2],
    lengths: Option<&[usize]>,
    pooling: Pooling,
) -> Result<Vec<f32>, Problem> {
    if positions == 0 || d == 0 {
        return Err("it is empty".to_owned());
    }
    let mut pooled = Vec::with_capacity(values.len() / positions);
    for (row, input) in values.chunks_exact(positions * d).enumerate() {
        let length = lengths
            .and_then(|lengths| lengths.get(row))
            .copied()
            .unwrap_or(positions);
        if !(1..=positions).contains(&length) {
            return Err(format!("it has {positions} positions for {length} tokens"));
        }
        let position = |number: usize| &input[number * d..(number + 1) * d];
        match pooling {
            Pooling::LastToken => pooled.extend_from_slice(position(length - 1)),
            Pooling::Mean => {
                let mut sum = vec![0.0_f64; d];
                for vector in input.chunks_exact(d).take(length) {
                    sum.iter_mut()
                        .zip(vector)
                        .for_each(|(sum, &value)| *sum += f64::from(value));
                }
                pooled.extend(sum.iter().map(|sum| (sum / length as f64) as f32));
            }
            Pooling::Cls | Pooling::None => pooled.extend_from_slice(position(0)),
        }
    }
    Ok(pooled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(shape: &[usize]) -> Output {
        let elements = shape.iter().product::<usize>();
        Output {
            shape: shape.to_vec(),
            values: (0..elements).map(|value| value as f32).collect(),
        }
    }

    #[test]
    fn padding_does_not_count() {
        let output = output(&[2, 3, 2]);
        let pooled = |pooling| pool(&output, 2, Some(&[2, 3]), pooling).unwrap();
        assert_eq!(pooled(Pooling::Mean), [1.0, 2.0, 8.0, 9.0]);
        assert_eq!(pooled(Pooling::Cls), [0.0, 1.0, 6.0, 7.0]);
        assert_eq!(pooled(Pooling::LastToken), [2.0, 3.0, 10.0, 11.0]);
    }

    #[test]
    fn places_of_a_picture_are_averaged() {
        assert_eq!(
            pool(&output(&[1, 2, 2, 2]), 1, None, Pooling::Mean).unwrap(),
            [1.5, 5.5]
        );
        assert_eq!(
            pool(&output(&[2, 3, 1, 1]), 2, None, Pooling::None)
                .unwrap()
                .len(),
            6
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (shape, pooling) in [
            (&[2, 3, 2][..], Pooling::None),
            (&[2, 3, 4, 4], Pooling::None),
            (&[2, 3], Pooling::Mean),
            (&[3, 3], Pooling::None),
            (&[2], Pooling::None),
            (&[2, 0, 4], Pooling::Mean),
        ] {
            assert!(pool(&output(shape), 2, None, pooling).is_err(), "{shape:?}");
        }
        assert!(pool(&output(&[1, 3, 2]), 1, Some(&[4]), Pooling::Mean).is_err());
    }
}
