//! The files that `certify` and `advise` write.

use std::path::PathBuf;

use perennial_core::{FileKind, Output};

#[derive(Debug, clap::Args)]
pub struct DocumentArguments {
    /// File for the result as a document, JSON [default: none is written]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// File for a page for a browser: the result first, then the figures and what they rest on. That of a certificate shows pictures of queries
    /// whose first hit changed, from image sets, and from files with a payload `thumbnail` (a `data:` URI) or `file` (a picture below the
    /// file's folder) [default: none is written]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Files that can be written, checked before the work.
pub struct Documents {
    pub document: Option<Output>,
    pub page: Option<Output>,
}

impl Documents {
    /// Whether one of them goes to standard output, where nothing else may be printed then.
    pub fn use_stdout(&self) -> bool {
        let mut outputs = self.document.iter().chain(&self.page);
        outputs.any(Output::is_stdout)
    }
}

impl DocumentArguments {
    /// Checks both paths. A file of another kind than `kind` is not replaced by the document.
    pub fn prepare(&self, kind: FileKind) -> anyhow::Result<Documents> {
        let document = self.out.as_ref();
        Ok(Documents {
            document: document
                .map(|file| Output::prepare_kind(file, kind))
                .transpose()?,
            page: self.html.as_ref().map(Output::prepare).transpose()?,
        })
    }
}
