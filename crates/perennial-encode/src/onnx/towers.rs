//! Batches through graphs: pictures in chunks of bounded memory, texts in groups of like length.

use std::sync::Arc;

use perennial_core::{Graph, ImageTower, TextTower};

use super::error::GraphError;
use super::pooling::pool;
use super::run::{Given, Numbers, Output};
use super::session::Session;

/// Elements of one layer's attention in one run, for each head: batch times length squared.
const ATTENTION: usize = 1 << 20;

/// By how much of its length a vector must change with its neighbours to be told from rounding.
const MIXED: f32 = 1e-4;

/// Types of elements, as the format numbers them.
const FLOATS: [u64; 3] = [1, 10, 11];
const INTEGERS: [u64; 2] = [6, 7];

/// A graph that embeds pictures.
pub(crate) struct ImageGraph {
    session: Arc<Session>,
    graph: Graph,
    input: String,
    shape: [usize; 3],
    alone: bool,
}

impl ImageGraph {
    /// Checks that the graph takes such pictures.
    pub(crate) fn new(session: Arc<Session>, tower: &ImageTower) -> Result<Self, GraphError> {
        session.about().output(&tower.graph.output)?;
        let [height, width] = tower.preparation.size;
        let shape = [tower.preparation.channels.count(), height, width];
        let needed = session.about().needed(&tower.graph.output);
        let [input] = needed.as_slice() else {
            let problem = format!(
                "an encoder of pictures has one input, and output {} needs {}",
                tower.graph.output,
                needed.len()
            );
            return Err(session.about().wrong_inputs(problem));
        };
        if !FLOATS.contains(&input.element) {
            return Err(session.about().wrong_inputs(format!("input {} is not of floating-point numbers; export without the preparation of bytes", input.name)));
        }
        let batch = match input.shape.as_deref() {
            None => None,
            Some([batch, rest @ ..]) if rest.len() == 3 => {
                let fits = rest.iter().zip(shape).all(|(declared, size)| {
                    declared.is_none_or(|declared| declared == size as u64)
                });
                if !fits {
                    let problem = format!(
                        "the preparation makes [{}, {height}, {width}] (channels first) of a picture, which input {} does not take",
                        shape[0], input.name
                    );
                    return Err(session.about().wrong_inputs(problem));
                }
                *batch
            }
            Some(_) => {
                return Err(session.about().wrong_inputs(format!(
                    "input {} is not [batch, channels, height, width]",
                    input.name
                )));
            }
        };
        let alone = takes_one(&session, &input.name, batch)? || session.about().scales_by_batch();
        let input = input.name.clone();
        Ok(Self {
            graph: tower.graph.clone(),
            input,
            shape,
            alone,
            session,
        })
    }

    /// Numbers of one prepared picture.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// One vector a picture.
    ///
    /// **Shapes**: every picture is `[c, h, w]`; the result is `[pictures, d]`, not normalised.
    pub(crate) fn embed(&self, pictures: &[&[f32]]) -> Result<Vec<f32>, GraphError> {
        let size = if self.alone {
            1
        } else {
            (self.session.run_size().pixel_bytes / (4 * self.len())).max(1)
        };
        let run = |chunk: &&[&[f32]]| {
            let [channels, height, width] = self.shape;
            let given = Given {
                name: &self.input,
                shape: vec![chunk.len(), channels, height, width],
                numbers: Numbers::Floats(chunk.concat()),
            };
            let output = self.session.run(vec![given], &self.graph.output)?;
            pooled(&self.session, &self.graph, &output, chunk.len(), None)
        };
        let chunks: Vec<&[&[f32]]> = pictures.chunks(size).collect();
        Ok(self.session.each(&chunks, self.alone, run)?.concat())
    }
}

/// A graph that embeds texts.
pub(crate) struct TextGraph {
    session: Arc<Session>,
    graph: Graph,
    ids: String,
    mask: Option<String>,
    types: Option<String>,
    length: Option<usize>,
    alone: bool,
    padding: u32,
}

impl TextGraph {
    /// Checks that the graph takes token ids.
    pub(crate) fn new(
        session: Arc<Session>,
        tower: &TextTower,
        padding: u32,
    ) -> Result<Self, GraphError> {
        session.about().output(&tower.graph.output)?;
        let (mut ids, mut mask, mut types) = (None, None, None);
        let (mut batch, mut length) = (None, None);
        for input in session.about().needed(&tower.graph.output) {
            match input.name.as_str() {
                "input_ids" => ids = Some(input.name.clone()),
                "attention_mask" => mask = Some(input.name.clone()),
                "token_type_ids" => types = Some(input.name.clone()),
                other => {
                    let problem = format!(
                        "an encoder of texts has input_ids, attention_mask and token_type_ids, not {other}; export it with these inputs alone"
                    );
                    return Err(session.about().wrong_inputs(problem));
                }
            }
            if !INTEGERS.contains(&input.element) {
                return Err(session.about().wrong_inputs(format!(
                    "input {} is not of whole numbers of 32 or 64 bits",
                    input.name
                )));
            }
            match input.shape.as_deref() {
                None => {}
                Some(&[rows, positions]) => {
                    batch = batch.or(rows);
                    length = length.or(positions);
                }
                Some(_) => {
                    return Err(session
                        .about()
                        .wrong_inputs(format!("input {} is not [batch, positions]", input.name)));
                }
            }
        }
        let Some(ids) = ids else {
            return Err(session.about().wrong_inputs(format!(
                "output {} does not depend on input_ids",
                tower.graph.output
            )));
        };
        let length = length.map(|length| length as usize);
        if length.is_some_and(|length| length < tower.max_tokens) {
            let problem = format!(
                "the graph takes {} positions, fewer than the {} tokens that texts are cut to",
                length.unwrap_or(0),
                tower.max_tokens
            );
            return Err(session.about().wrong_inputs(problem));
        }
        if length.is_some() && mask.is_none() {
            return Err(session
                .about()
                .wrong_inputs("a graph of a fixed number of positions needs attention_mask"));
        }
        let alone = takes_one(&session, &ids, batch)? || session.about().scales_by_batch();
        let mut tower = Self {
            graph: tower.graph.clone(),
            ids,
            mask,
            types,
            length,
            alone,
            padding,
            session,
        };
        tower.alone = alone || tower.mixes()?;
        Ok(tower)
    }

    /// Whether a text's vector changes with the texts beside it, as where the graph averages over padding. Tried with two short texts.
    fn mixes(&self) -> Result<bool, GraphError> {
        // Ids that every table has. Without a mask, only texts of one length meet.
        let shorter: &[u32] = if self.mask.is_some() {
            &[1, 2]
        } else {
            &[1, 2, 1, 0]
        };
        let texts = [shorter, &[2, 0, 1, 0]];
        let together = self.run(&texts, &[0, 1])?;
        let apart = [self.run(&texts, &[0])?, self.run(&texts, &[1])?].concat();
        let length = apart.iter().map(|value| value * value).sum::<f32>().sqrt();
        let differs = |(a, b): (&f32, &f32)| (a - b).abs() > MIXED * length;
        Ok(together.len() != apart.len() || together.iter().zip(&apart).any(differs))
    }

    /// Rows of the table of token vectors, if that is known.
    pub(crate) fn rows(&self) -> Option<u64> {
        self.session.about().table_rows(&self.ids)
    }

    /// One vector a text.
    ///
    /// **Shapes**: the result is `[texts, d]`, in the order of the texts, not normalised.
    pub(crate) fn embed(&self, texts: &[&[u32]]) -> Result<Vec<f32>, GraphError> {
        // Texts of like length together, because a batch costs as much as if all were as long as its longest.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&text| texts[text].len());
        let groups = self.groups(texts, &order);
        let run = |group: &&[usize]| self.run(texts, group);
        let rows = self.session.each(&groups, self.alone, run)?.concat();
        let dim = rows.len() / texts.len().max(1);
        let mut sorted = vec![0.0; rows.len()];
        for (row, &text) in rows.chunks_exact(dim.max(1)).zip(&order) {
            sorted[text * dim..(text + 1) * dim].copy_from_slice(row);
        }
        Ok(sorted)
    }

    /// Neighbours in `order` that run together.
    fn groups<'a>(&self, texts: &[&[u32]], order: &'a [usize]) -> Vec<&'a [usize]> {
        let (mut groups, mut rest) = (Vec::new(), order);
        let tokens = self.session.run_size().tokens;
        while let Some((&first, _)) = rest.split_first() {
            let shortest = texts[first].len();
            let fits = |count: usize, text: usize| {
                let length = self.length.unwrap_or(texts[text].len());
                // Without a mask nothing may be padded. With it, not by more than an eighth, and a little for short texts.
                let like = self.length.is_some()
                    || if self.mask.is_some() {
                        length <= shortest + shortest / 8 + 4
                    } else {
                        length == shortest
                    };
                like && !self.alone
                    && count * length <= tokens
                    && count * length * length <= ATTENTION
            };
            let size = rest
                .iter()
                .enumerate()
                .skip(1)
                .take_while(|&(before, &text)| fits(before + 1, text))
                .count()
                + 1;
            let (group, others) = rest.split_at(size);
            groups.push(group);
            rest = others;
        }
        groups
    }

    fn run(&self, texts: &[&[u32]], group: &[usize]) -> Result<Vec<f32>, GraphError> {
        let lengths: Vec<usize> = group.iter().map(|&text| texts[text].len()).collect();
        let positions = self.length.or(lengths.iter().copied().max()).unwrap_or(0);
        let given = |name, of: &dyn Fn(usize, usize) -> i32| {
            let places = group
                .iter()
                .flat_map(|&text| (0..positions).map(move |position| (text, position)));
            let values = places.map(|(text, position)| of(text, position));
            Given {
                name,
                shape: vec![group.len(), positions],
                numbers: Numbers::Integers(values.collect()),
            }
        };
        let ids = |text: usize, position: usize| {
            texts[text]
                .get(position)
                .copied()
                .unwrap_or(self.padding)
                .min(i32::MAX as u32) as i32
        };
        let mut inputs = vec![given(&self.ids, &ids)];
        if let Some(mask) = &self.mask {
            inputs.push(given(mask, &|text, position| {
                i32::from(position < texts[text].len())
            }));
        }
        if let Some(types) = &self.types {
            inputs.push(given(types, &|_, _| 0));
        }
        let output = self.session.run(inputs, &self.graph.output)?;
        pooled(
            &self.session,
            &self.graph,
            &output,
            group.len(),
            Some(&lengths),
        )
    }
}

/// Whether a graph takes one input at a time.
fn takes_one(session: &Session, input: &str, batch: Option<u64>) -> Result<bool, GraphError> {
    match batch {
        None => Ok(false),
        Some(1) => Ok(true),
        Some(fixed) => {
            let problem = format!(
                "input {input} takes batches of exactly {fixed}; export it with a batch of any size (dynamic axes), or of 1"
            );
            Err(session.about().wrong_inputs(problem))
        }
    }
}

fn pooled(
    session: &Session,
    graph: &Graph,
    output: &Output,
    batch: usize,
    lengths: Option<&[usize]>,
) -> Result<Vec<f32>, GraphError> {
    pool(output, batch, lengths, graph.pooling).map_err(|problem| GraphError::Shape {
        file: session.about().file().to_owned(),
        output: graph.output.clone(),
        shape: output.shape.clone(),
        problem,
    })
}
