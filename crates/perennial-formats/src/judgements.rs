//! Relevance judgements: which items are right answers to which queries, and how good they are.

use std::collections::BTreeMap;
use std::path::Path;

use perennial_core::ItemId;
use serde::Deserialize;
use serde_json::Number;

use crate::delimited::{column_names, separator};
use crate::error::FormatError;
use crate::jsonl::{in_line, read_id};
use crate::lines::Lines;

/// The grade of an item in a file that names none.
const RELEVANT: i32 = 1;

const QUERY_NAMES: [&str; 4] = ["query", "query-id", "query_id", "qid"];
const ITEM_NAMES: [&str; 9] = [
    "item",
    "item-id",
    "item_id",
    "corpus-id",
    "corpus_id",
    "doc-id",
    "doc_id",
    "docid",
    "document",
];
const GRADE_NAMES: [&str; 4] = ["grade", "score", "relevance", "rel"];

/// Graded right answers. A grade above 0 is relevant, and more is better; 0 or less was judged and found irrelevant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgements {
    queries: BTreeMap<ItemId, Vec<(ItemId, i32)>>,
    count: usize,
}

impl Judgements {
    /// Collects judgements. A repeated one counts once.
    ///
    /// # Errors
    /// The first pair of query and item that is judged twice with different grades.
    pub fn new(
        judged: impl IntoIterator<Item = (ItemId, ItemId, i32)>,
    ) -> Result<Self, (ItemId, ItemId)> {
        let mut queries: BTreeMap<ItemId, Vec<(ItemId, i32)>> = BTreeMap::new();
        for (query, item, grade) in judged {
            queries.entry(query).or_default().push((item, grade));
        }
        let mut count = 0;
        for (query, items) in &mut queries {
            items.sort_unstable();
            items.dedup();
            if let Some([(item, _), _]) = items.array_windows().find(|[one, next]| one.0 == next.0)
            {
                return Err((query.clone(), item.clone()));
            }
            count += items.len();
        }
        Ok(Self { queries, count })
    }

    /// The judged items of a query with their grades, by id; none for an unknown query.
    pub fn of(&self, query: &ItemId) -> &[(ItemId, i32)] {
        self.queries.get(query).map_or(&[], Vec::as_slice)
    }

    /// All judged queries, by id.
    pub fn queries(&self) -> impl ExactSizeIterator<Item = &ItemId> {
        self.queries.keys()
    }

    /// The number of judged pairs of query and item.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Reads judgements. The content decides which layout a file has:
///
/// | layout | a line |
/// |---|---|
/// | TREC | `query 0 item grade`, separated by space |
/// | BEIR, CSV | a header line that names `query-id`, `corpus-id` and `score` (or `query`, `item`, `grade`), separated by tab, comma or semicolon |
/// | JSONL | `{"query": …, "item": …, "grade": …}`, or BEIR's names |
///
/// Grades are integers; without them every line is a right answer of grade 1.
///
/// # Errors
/// [`FormatError`] with the line: an unknown layout, an id or a grade that cannot be used, a pair with two grades. An empty file.
pub fn read_judgements(path: &Path) -> Result<Judgements, FormatError> {
    let mut lines = Lines::open(path)?;
    let mut judged = Vec::new();
    let mut layout = None;
    while let Some(line) = lines.next_as_it_is()? {
        let parsed = match &layout {
            None => match Layout::of(line) {
                Some(Layout::Table(table)) => {
                    layout = Some(Layout::Table(table));
                    continue;
                }
                Some(found) => layout.insert(found).parse(line),
                None => Err("is of no known layout; write `query 0 item grade`, a header with `query-id`, `corpus-id`, `score`, or JSONL with `query`, `item`, `grade`".to_owned()),
            },
            Some(layout) => layout.parse(line),
        };
        match parsed {
            Ok(judgement) => judged.push(judgement),
            Err(problem) => return Err(lines.error(problem)),
        }
    }
    if judged.is_empty() {
        return Err(FormatError::file(path, "holds no judgements"));
    }
    Judgements::new(judged).map_err(|(query, item)| {
        let problem = format!("item {item} has two different grades for query {query}; keep one");
        FormatError::file(path, problem)
    })
}

enum Layout {
    Trec,
    Table(Table),
    Json,
}

struct Table {
    separator: u8,
    columns: usize,
    query: usize,
    item: usize,
    grade: Option<usize>,
}

type Judgement = (ItemId, ItemId, i32);

impl Layout {
    /// Recognises the layout by the first line.
    fn of(line: &str) -> Option<Self> {
        if line.trim_start().starts_with('{') {
            return Some(Self::Json);
        }
        let names = column_names(line);
        let find = |known: &[&str]| {
            names
                .iter()
                .position(|name| known.contains(&name.to_ascii_lowercase().as_str()))
        };
        if let (Some(query), Some(item)) = (find(&QUERY_NAMES), find(&ITEM_NAMES)) {
            return Some(Self::Table(Table {
                separator: separator(line),
                columns: names.len(),
                query,
                item,
                grade: find(&GRADE_NAMES),
            }));
        }
        trec(line).is_ok().then_some(Self::Trec)
    }

    fn parse(&self, line: &str) -> Result<Judgement, String> {
        match self {
            Self::Trec => trec(line),
            Self::Table(table) => table.parse(line),
            Self::Json => json(line),
        }
    }
}

fn trec(line: &str) -> Result<Judgement, String> {
    let mut columns = line.split_ascii_whitespace();
    let (Some(query), Some(_), Some(item), Some(grade), None) = (
        columns.next(),
        columns.next(),
        columns.next(),
        columns.next(),
        columns.next(),
    ) else {
        return Err("needs the four columns `query 0 item grade`".to_owned());
    };
    Ok((parse_id(query)?, parse_id(item)?, parse_grade(grade)?))
}

fn parse_id(text: &str) -> Result<ItemId, String> {
    text.parse()
        .map_err(|error| format!("cannot be used: {error}"))
}

fn parse_grade(text: &str) -> Result<i32, String> {
    // Some programs write grades as floating-point numbers.
    let integer = text.strip_suffix(".0").unwrap_or(text);
    integer.parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        format!("has the grade {shown:?}; grades are integers of 32 bits")
    })
}

impl Table {
    fn parse(&self, line: &str) -> Result<Judgement, String> {
        let mut record = csv::StringRecord::new();
        csv::ReaderBuilder::new()
            .has_headers(false)
            .delimiter(self.separator)
            .from_reader(line.as_bytes())
            .read_record(&mut record)
            .map_err(|error| format!("cannot be read: {error}"))?;
        let other_columns = || {
            format!(
                "has {} columns where the header names {}",
                record.len(),
                self.columns
            )
        };
        // One more than the header names may be a row's name in front, and then every cell is in the wrong column.
        if record.len() > self.columns {
            return Err(other_columns());
        }
        let cell = |index: usize| record.get(index).map(str::trim).ok_or_else(other_columns);
        let grade = match self.grade {
            Some(grade) => parse_grade(cell(grade)?)?,
            None => RELEVANT,
        };
        Ok((
            parse_id(cell(self.query)?)?,
            parse_id(cell(self.item)?)?,
            grade,
        ))
    }
}

fn json(line: &str) -> Result<Judgement, String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(alias = "query-id", alias = "query_id", alias = "qid")]
        query: ItemId,
        #[serde(
            alias = "item-id",
            alias = "item_id",
            alias = "corpus-id",
            alias = "corpus_id"
        )]
        item: ItemId,
        #[serde(alias = "score", alias = "relevance")]
        grade: Option<Number>,
    }
    let line: Line = serde_json::from_str(line).map_err(|error| in_line(&error))?;
    let grade = match line.grade {
        Some(grade) => parse_grade(&grade.to_string())?,
        None => RELEVANT,
    };
    Ok((read_id(line.query)?, read_id(line.item)?, grade))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::file;
    use proptest::prelude::*;

    fn read(text: impl AsRef<[u8]>) -> Result<Judgements, FormatError> {
        let (_folder, path) = file(text);
        read_judgements(&path)
    }

    #[test]
    fn all_layouts_say_the_same() {
        let trec = "q1 0 12 2\nq1 0 d3 0\n7 Q0 d3 1\n";
        let beir = "query-id\tcorpus-id\tscore\nq1\t12\t2\nq1\td3\t0\n7\td3\t1\n";
        let csv =
            "\u{feff}grade,query,item,note\n2,q1,12,x\n0,q1,\"d3\",\n1,7,d3,\n2,q1,12,again\n";
        let json = "{\"query\":\"q1\",\"item\":\"12\",\"grade\":2}\n{\"query-id\":\"q1\",\"corpus-id\":\"d3\",\"score\":0}\n{\"query\":7,\"item\":\"d3\"}";
        let expected = read(trec).unwrap();
        assert_eq!(expected.len(), 3);
        assert_eq!(
            expected.of(&"q1".into()),
            [(ItemId::Number(12), 2), ("d3".into(), 0)]
        );
        assert_eq!(expected.queries().next(), Some(&ItemId::Number(7)));
        assert!(expected.of(&"unknown".into()).is_empty());
        // As pandas writes a frame with its row numbers, and data sets with grades as floating-point numbers.
        let numbered =
            "\tquery-id\tcorpus-id\tscore\tnote\n0\tq1\t12\t2.0\t\n1\tq1\td3\t0\n2\t7\td3\t1\tx\n";
        let floats = " {\"query\":\"q1\",\"item\":12,\"score\":2.0}\n{\"query\":\"q1\",\"item\":\"d3\",\"score\":0.0}\n{\"query\":7,\"item\":\"d3\",\"grade\":null}";
        for text in [beir, csv, json, numbered, floats] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        for (text, says) in [
            ("", "holds no judgements"),
            ("query-id\tcorpus-id\tscore\n", "holds no judgements"),
            ("q d 1\n", "line 1 is of no known layout"),
            ("q 0 d 1\nq 0 d\n", "line 2 needs the four columns"),
            ("q 0 d 1\nq 0 e 1.5\n", "line 2 has the grade \"1.5\""),
            (
                "q 0 d 1\nq 0 d 2\n",
                "item d has two different grades for query q",
            ),
            ("query,item\na,b\nc\n", "line 3 has 1 columns"),
            ("query,item\na,\n", "line 2 cannot be used: id"),
            // A row's name that the header does not count, as R writes it.
            ("query\titem\n1\ta\tb\n", "line 2 has 3 columns"),
            (
                "{\"query\":1,\"item\":2,\"grade\":1.5}",
                "line 1 has the grade \"1.5\"",
            ),
            (
                "{\"query\":1,\"item\":2}\n{\"query\":1}",
                "line 2 cannot be used: missing field `item`",
            ),
            ("{\"query\":1,\"item\":2,\"grade\":99999999999}", "line 1"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains(says) && error.contains("tested.file"),
                "{text}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judgements_or_an_error(
            start in "(q 0 d 1|query,item,grade|query-id\tcorpus-id|\\{\"query\":1,\"item\":2\\})?",
            rest in "[\\n\\t ,\"{}:qid0-9\\.]{0,80}",
        ) {
            if let Ok(judgements) = read(format!("{start}\n{rest}")) {
                let sum: usize = judgements.queries().map(|q| judgements.of(q).len()).sum();
                prop_assert_eq!(sum, judgements.len());
            }
        }
    }
}
