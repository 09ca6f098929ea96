//! How the figures of a certificate came about: files, settings, the command that repeats it.

use maud::{Markup, html};

use super::numbers::Grouped;
use super::page;

/// How the figures came about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CertificateProvenance {
    /// The files that were read.
    pub files: Vec<SourceFile>,
    /// Names and values of the settings.
    pub settings: Vec<(String, String)>,
    /// Seed of everything that is drawn.
    pub seed: Option<u64>,
    /// When it was measured: RFC 3339 in UTC.
    pub measured: Option<String>,
    /// Name and version of the program.
    pub program: Option<String>,
    /// The command line that repeats it.
    pub command: Option<String>,
}

/// A file that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceFile {
    /// What it was used as, such as `old queries`.
    pub role: String,
    /// Its name or path.
    pub name: String,
    /// Its rows, where it has some.
    pub rows: Option<usize>,
    /// Its dimension, where it has one.
    pub dim: Option<usize>,
    /// SHA-256 of its content, hexadecimal.
    pub sha256: Option<String>,
}

pub(super) fn section(provenance: &CertificateProvenance) -> Markup {
    let settings = !provenance.settings.is_empty() || provenance.program.is_some();
    if provenance.files.is_empty() && !settings && provenance.command.is_none() {
        return html! {};
    }
    let size = |file: &SourceFile| match (file.rows, file.dim) {
        (Some(rows), Some(dim)) => format!("{} \u{d7} {dim}", Grouped(rows)),
        (Some(rows), None) => Grouped(rows).to_string(),
        (None, Some(dim)) => format!("dimension {dim}"),
        (None, None) => "n/a".to_owned(),
    };
    let files = html! {
        table.cards.files {
            thead {
                tr { th scope="col" { "Used as" } th scope="col" { "File" } th.n scope="col" { "Size" } th scope="col" { "SHA-256" } }
            }
            tbody {
                @for file in &provenance.files {
                    tr {
                        th scope="row" data-label="Used as" { (file.role) }
                        td data-label="File" { code { (file.name) } }
                        td.n data-label="Size" { (size(file)) }
                        td.hash data-label="SHA-256" { code { (file.sha256.as_deref().unwrap_or("n/a")) } }
                    }
                }
            }
        }
    };
    let content = html! {
        @if !provenance.files.is_empty() { (page::scroll("Files", files)) }
        @if settings {
            dl.facts {
                @for (name, value) in &provenance.settings { div { dt { (name) } dd { (value) } } }
                @if let Some(program) = &provenance.program { div { dt { "Program" } dd { (program) } } }
            }
        }
        @if let Some(command) = &provenance.command {
            h3 { "To repeat it" }
            pre { code { (command) } }
        }
    };
    page::section("provenance", "Where the figures come from", content)
}
