//! The compatibility matrix: which accuracy does the query model of row `t` reach on a gallery filled by the model of column
//! `k`? The diagonal holds the self-tests, everything below it the cross-tests.

use serde::{Deserialize, Serialize};

/// Why values are not a compatibility matrix. Cells are written `[row][column]`, counted from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// There is no row.
    #[error("the matrix has no rows; it needs at least the self-test of one model")]
    Empty,
    /// A row is too short or too long.
    #[error(
        "row {row} has {actual} cells; a lower triangle has {} there, a full matrix {tasks}",
        row + 1
    )]
    RowLength {
        /// Row, counted from 0.
        row: usize,
        /// Cells found.
        actual: usize,
        /// Rows of the matrix.
        tasks: usize,
    },
    /// A cell on or below the diagonal has no value.
    #[error(
        "cell [{row}][{column}] is missing; every cell on and below the diagonal needs an accuracy"
    )]
    Missing {
        /// Row, counted from 0.
        row: usize,
        /// Column, counted from 0.
        column: usize,
    },
    /// A cell is not a fraction.
    #[error("cell [{row}][{column}] is {value}, not a fraction between 0 and 1{}", percent_hint(*value))]
    NotAFraction {
        /// Row, counted from 0.
        row: usize,
        /// Column, counted from 0.
        column: usize,
        /// The value found.
        value: f64,
    },
    /// The text is not JSON, or holds no matrix.
    #[error(
        "no matrix in this JSON ({reason}); expected [[0.6], [0.5, 0.7]] or {{\"matrix\": [[0.6], [0.5, 0.7]]}}"
    )]
    Json {
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A cell of a CSV file is not a number.
    #[error("line {line}, column {column}: `{text}` is not a number")]
    NotANumber {
        /// Line of the file, counted from 1.
        line: usize,
        /// Column of the file, counted from 1.
        column: usize,
        /// The text found, shortened.
        text: String,
    },
}

fn percent_hint(value: f64) -> &'static str {
    if value > 1.0 && value <= 100.0 {
        "; if the values are percentages, divide all of them by 100"
    } else {
        ""
    }
}

/// A lower-triangular matrix of accuracies, diagonal included.
///
/// **Shapes.** `T` rows; row `t` has the cells `0..=t`. **Units.** Fractions in `[0, 1]`.
///
/// **Source.** `M` of CL²R and IAM-CL²R: nearest-class-mean top-1 of query model `t` on the gallery of model `k`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Vec<Option<f64>>>", into = "Vec<Vec<f64>>")]
pub struct CompatibilityMatrix {
    rows: Vec<Vec<f64>>,
}

impl CompatibilityMatrix {
    /// Takes a lower triangle with its diagonal, or a full square matrix, of which the part above the diagonal is ignored.
    ///
    /// # Errors
    /// [`MatrixError`] naming the row or cell that does not fit.
    pub fn new(rows: Vec<Vec<f64>>) -> Result<Self, MatrixError> {
        let full = |row: Vec<f64>| row.into_iter().map(Some).collect();
        Self::from_cells(rows.into_iter().map(full).collect())
    }

    /// Reads `{"matrix": [[...], ...]}`, whatever else the object holds, or the bare array. Cells above the diagonal may be
    /// anything that is a number or `null`.
    ///
    /// # Errors
    /// [`MatrixError`] for text that is no such JSON, and as [`CompatibilityMatrix::new`].
    pub fn from_json(text: &str) -> Result<Self, MatrixError> {
        #[derive(Deserialize)]
        struct Object {
            matrix: Cells,
        }
        let failed = |error: serde_json::Error| MatrixError::Json {
            reason: error.to_string(),
        };
        let cells = if text.trim_start().starts_with('[') {
            serde_json::from_str(text).map_err(failed)?
        } else {
            let object: Object = serde_json::from_str(text).map_err(failed)?;
            object.matrix
        };
        Self::from_cells(cells)
    }

    /// Reads one row per line, cells separated by commas, semicolons, tabs or blanks.
    ///
    /// Empty lines and lines that start with `#` are skipped, and so is a heading: a first line that holds no number or starts
    /// with an empty cell; in the latter case the first column holds row names. Cells above the diagonal may be empty.
    ///
    /// # Errors
    /// [`MatrixError`] with line and column of a cell that is not a number, and as [`CompatibilityMatrix::new`].
    pub fn from_csv(text: &str) -> Result<Self, MatrixError> {
        let text = text.trim_start_matches('\u{feff}');
        let mut lines = (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
            .map(|(number, line)| (number, split_cells(line)))
            .peekable();
        let heading = lines.next_if(|(_, cells)| {
            cells.first() == Some(&"") || cells.iter().all(|cell| parse_cell(cell).is_none())
        });
        let row_names = heading.is_some_and(|(_, cells)| cells.first() == Some(&""));
        let mut rows = Vec::new();
        for (line, cells) in lines {
            let mut row = Vec::new();
            for (index, text) in cells.into_iter().enumerate().skip(usize::from(row_names)) {
                let above_diagonal = row.len() > rows.len();
                let value = parse_cell(text);
                if value.is_none() && !text.is_empty() && !above_diagonal {
                    return Err(MatrixError::NotANumber {
                        line,
                        column: index + 1,
                        text: text.chars().take(40).collect(),
                    });
                }
                row.push(value);
            }
            // Spreadsheets fill short rows with empty cells.
            let filled = row
                .iter()
                .rposition(Option::is_some)
                .map_or(0, |last| last + 1);
            row.truncate(filled.max(rows.len() + 1));
            rows.push(row);
        }
        Self::from_cells(rows)
    }

    fn from_cells(rows: Cells) -> Result<Self, MatrixError> {
        let tasks = rows.len();
        if tasks == 0 {
            return Err(MatrixError::Empty);
        }
        let check_row = |(row, cells): (usize, Vec<Option<f64>>)| {
            if cells.len() != row + 1 && cells.len() != tasks {
                let actual = cells.len();
                return Err(MatrixError::RowLength { row, actual, tasks });
            }
            let cells = cells.into_iter().take(row + 1).enumerate();
            cells
                .map(|(column, cell)| {
                    let value = cell.ok_or(MatrixError::Missing { row, column })?;
                    if !(0.0..=1.0).contains(&value) {
                        return Err(MatrixError::NotAFraction { row, column, value });
                    }
                    Ok(value)
                })
                .collect::<Result<Vec<f64>, _>>()
        };
        let rows = rows.into_iter().enumerate().map(check_row);
        Ok(Self {
            rows: rows.collect::<Result<_, _>>()?,
        })
    }

    /// Number of models, `T`.
    pub fn tasks(&self) -> usize {
        self.rows.len()
    }

    /// The rows of the lower triangle: row `t` has `t + 1` cells.
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// Accuracy of query model `query` on the gallery of model `gallery`; `None` above the diagonal and beyond the matrix.
    pub fn get(&self, query: usize, gallery: usize) -> Option<f64> {
        self.rows.get(query)?.get(gallery).copied()
    }

    /// The self-tests `M[t][t]`, in order.
    pub fn self_tests(&self) -> impl Iterator<Item = f64> + '_ {
        self.rows.iter().enumerate().map(|(task, row)| row[task])
    }

    /// Every cross-test as `(t, k, M[t][k], M[k][k])` with `k < t`, row by row.
    pub fn cross_tests(&self) -> impl Iterator<Item = (usize, usize, f64, f64)> + '_ {
        self.rows
            .iter()
            .enumerate()
            .flat_map(move |(t, row)| (0..t).map(move |k| (t, k, row[k], self.rows[k][k])))
    }
}

type Cells = Vec<Vec<Option<f64>>>;

impl TryFrom<Cells> for CompatibilityMatrix {
    type Error = MatrixError;

    fn try_from(rows: Cells) -> Result<Self, MatrixError> {
        Self::from_cells(rows)
    }
}

impl From<CompatibilityMatrix> for Vec<Vec<f64>> {
    fn from(matrix: CompatibilityMatrix) -> Self {
        matrix.rows
    }
}

fn split_cells(line: &str) -> Vec<&str> {
    let separator = [',', ';', '\t'].into_iter().find(|&s| line.contains(s));
    match separator {
        Some(separator) => line
            .split(separator)
            .map(|cell| cell.trim().trim_matches('"'))
            .collect(),
        None => line
            .split_whitespace()
            .map(|cell| cell.trim_matches('"'))
            .collect(),
    }
}

fn parse_cell(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn two() -> CompatibilityMatrix {
        CompatibilityMatrix::new(vec![vec![0.6], vec![0.5, 0.7]]).unwrap()
    }

    #[test]
    fn json_in_every_accepted_form() {
        for text in [
            "[[0.6],[0.5,0.7]]",
            r#" {"matrix": [[0.6], [0.5, 0.7]], "metrics": {"x": 1}, "about": "y"}"#,
            r#"{"matrix": [[0.6, 0.9], [0.5, 0.7]]}"#,
            "\n[[0.6, null], [0.5, 0.7]]",
            "[[0.6, 73], [0.5, 0.7]]",
        ] {
            assert_eq!(
                CompatibilityMatrix::from_json(text).unwrap(),
                two(),
                "{text}"
            );
        }
    }

    #[test]
    fn csv_in_every_accepted_form() {
        for text in [
            "0.6\n0.5,0.7\n",
            "0.6,\r\n0.5,0.7\r\n",
            "\u{feff}0.6;0.9\n\n0.5; 0.7\n",
            "# accuracies\n0.6 nan\n0.5 0.7",
            "6e-1\t-\n.5\t0.7",
            "v1,v2\n0.6,\n0.5,0.7\n",
            ",\"v1\",\"v2\"\n\"v1\",0.6,\n\"v2\",0.5,0.7\n",
            ",0,1\n0,0.6,\n1,0.5,0.7",
        ] {
            assert_eq!(
                CompatibilityMatrix::from_csv(text).unwrap(),
                two(),
                "{text}"
            );
        }
    }

    #[test]
    fn errors_name_the_cell_and_help() {
        let json = |text| {
            CompatibilityMatrix::from_json(text)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            json("[[58.9],[59.7,61.5]]"),
            "cell [0][0] is 58.9, not a fraction between 0 and 1; if the values are percentages, divide all of them by 100"
        );
        assert_eq!(
            json("[[0.5],[-0.1,0.2]]"),
            "cell [1][0] is -0.1, not a fraction between 0 and 1"
        );
        assert_eq!(
            json("[[0.5],[null,0.2]]"),
            MatrixError::Missing { row: 1, column: 0 }.to_string()
        );
        assert_eq!(
            json("[[0.1],[0.1,0.2],[0.3]]"),
            "row 2 has 1 cells; a lower triangle has 3 there, a full matrix 3"
        );
        assert!(json("{\"rows\": []}").contains("missing field `matrix`"));
        assert_eq!(json("[]"), MatrixError::Empty.to_string());
        let csv = |text| CompatibilityMatrix::from_csv(text).unwrap_err().to_string();
        assert_eq!(
            csv("0.5\n\nabc,0.2"),
            "line 3, column 1: `abc` is not a number"
        );
        assert_eq!(
            csv("0.5\n,0.2"),
            MatrixError::Missing { row: 1, column: 0 }.to_string()
        );
        assert_eq!(
            csv("nan"),
            "cell [0][0] is NaN, not a fraction between 0 and 1"
        );
        assert_eq!(csv(""), MatrixError::Empty.to_string());
        assert_eq!(
            csv("0.5\n0.5"),
            "row 1 has 1 cells; a lower triangle has 2 there, a full matrix 2"
        );
    }

    #[test]
    fn cells_above_the_diagonal_do_not_exist() {
        assert_eq!(two().get(1, 0), Some(0.5));
        assert_eq!(two().get(0, 1), None);
        assert_eq!(two().get(2, 0), None);
        assert_eq!(two().cross_tests().collect::<Vec<_>>(), [(1, 0, 0.5, 0.6)]);
        assert_eq!(two().self_tests().collect::<Vec<_>>(), [0.6, 0.7]);
    }

    fn triangles() -> impl Strategy<Value = Vec<Vec<f64>>> {
        (1usize..8).prop_flat_map(|tasks| {
            (1..=tasks)
                .map(|cells| prop::collection::vec(0.0..=1.0f64, cells))
                .collect::<Vec<_>>()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn writing_and_reading_keeps_every_bit(rows in triangles()) {
            let matrix = CompatibilityMatrix::new(rows.clone()).unwrap();
            let json = serde_json::to_string(&matrix).unwrap();
            prop_assert_eq!(&CompatibilityMatrix::from_json(&json).unwrap(), &matrix);
            let csv: Vec<String> = rows
                .iter()
                .map(|row| row.iter().map(f64::to_string).collect::<Vec<_>>().join(","))
                .collect();
            prop_assert_eq!(&CompatibilityMatrix::from_csv(&csv.join("\n")).unwrap(), &matrix);
        }

        #[test]
        fn any_text_gives_a_matrix_or_an_error(text in "[-0-9.,;\"a-z\\[\\]{}\n\t ]{0,80}") {
            let _ = CompatibilityMatrix::from_json(&text);
            let _ = CompatibilityMatrix::from_csv(&text);
        }
    }
}
