//! `report.html`: the compatibility report as one self-contained page: no script, no network, light and dark, printable.

mod curve;
mod heat_map;
mod pairs;

use std::fmt::{self, Display, Write};

use perennial_core::FileKind;

use crate::{Compatibility, Metrics, Provenance, VerdictCounts};

/// What the page looks like from outside.
pub const FILE_KIND: FileKind = FileKind {
    name: "a compatibility report",
    recognise: |head| {
        let text = String::from_utf8_lossy(head);
        text.contains("content=\"perennial\"") || text.contains("<title>Compatibility report")
    },
};

const STYLE: &str = include_str!("html/report.css");

/// The page for a report, with what is known about its run. Every name in it is escaped.
pub fn render(report: &Compatibility, provenance: &Provenance) -> String {
    let mut page = String::new();
    write_page(&mut page, report, provenance).expect("writing to a string cannot fail");
    page
}

fn write_page(out: &mut String, report: &Compatibility, provenance: &Provenance) -> fmt::Result {
    let counts = VerdictCounts::of(report.pairs());
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"generator\" content=\"perennial\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Compatibility report: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        counts.sentence()
    )?;
    write_header(out, report, counts, provenance)?;
    write_metrics(out, report)?;
    if report.versions().len() > 1 {
        heat_map::write_section(out, report, &provenance.replacements)?;
        curve::write_section(out, report)?;
        pairs::write_section(out, report)?;
    }
    write_retrieval(out, report)?;
    write_method(out, report)?;
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(())
}

fn write_header(
    out: &mut String,
    report: &Compatibility,
    counts: VerdictCounts,
    provenance: &Provenance,
) -> fmt::Result {
    let versions = report.versions();
    let range = match versions {
        [only] => Escaped(only).to_string(),
        [first, .., last] => format!("{} to {}", Escaped(first), Escaped(last)),
        [] => String::new(),
    };
    write!(
        out,
        "<header>\n<p class=\"kicker\">Perennial compatibility report</p>\n<h1>{}</h1>\n\
         <p class=\"lead\">Each newer model version answered the queries from galleries that older versions had embedded. \
         A pair of versions is <b>compatible</b> when the newer one answers more queries right there than the older one did, \
         and <b>incompatible</b> when it answers fewer. It is <b>undecided</b> when the 95&nbsp;% interval of the \
         difference includes 0.</p>\n<dl class=\"facts\">\n",
        counts.sentence(),
    )?;
    for (name, value) in provenance.facts() {
        writeln!(
            out,
            "<div><dt>{name}</dt><dd>{}</dd></div>",
            Escaped(&value)
        )?;
    }
    for (name, value) in [
        (
            "Versions",
            format!("{} <span>{range}</span>", versions.len()),
        ),
        ("Queries", probe(report.queries())),
        ("Gallery", probe(report.gallery())),
    ] {
        writeln!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
    }
    out.push_str("</dl>\n</header>\n");
    Ok(())
}

fn probe(set: &crate::ProbeSet) -> String {
    format!("{} <span>{}</span>", Grouped(set.count), Escaped(&set.name))
}

fn write_metrics(out: &mut String, report: &Compatibility) -> fmt::Result {
    let metrics: &Metrics = report.metrics();
    let counts = VerdictCounts::of(report.pairs());
    let plain = |value: Option<f64>| value.map_or("n/a".to_owned(), |value| format!("{value:.4}"));
    let signed =
        |value: Option<f64>| value.map_or("n/a".to_owned(), |value| Signed(value, 4).to_string());
    let rule = format!(
        "share of all pairs with {}, undecided ones included",
        Escaped(report.tie_rule().formula())
    );
    out.push_str(
        "<section aria-labelledby=\"metrics\">\n<h2 id=\"metrics\">Metrics</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-labelledby=\"metrics\">\n<table class=\"metrics\">\n<thead><tr><th scope=\"col\">Metric</th>\
         <th scope=\"col\" class=\"n\">Value</th><th scope=\"col\">Meaning</th></tr></thead>\n<tbody>\n",
    );
    for (short, name, value, meaning) in [
        (
            "AC",
            "Average compatibility",
            plain(metrics.average_compatibility),
            rule.as_str(),
        ),
        (
            "AA",
            "Average accuracy",
            plain(Some(metrics.average_accuracy)),
            "mean over self-tests and cross-tests",
        ),
        (
            "ACA",
            "Average compatible accuracy",
            plain(metrics.average_compatible_accuracy),
            "sum of the cross-tests that AC counts, over the number of pairs",
        ),
        (
            "BC",
            "Backward compatibility",
            signed(metrics.backward_compatibility),
            "mean difference between the newest version on every old gallery and the old self-tests",
        ),
        (
            "FC",
            "Forward compatibility",
            signed(metrics.forward_compatibility),
            "mean difference between each version on its predecessor's gallery and its own self-test",
        ),
        (
            "",
            "Compatible pairs",
            counts.compatible.to_string(),
            "no part of the 95 % interval of the margin lies below 0",
        ),
        (
            "",
            "Undecided pairs",
            counts.undecided.to_string(),
            "the interval includes 0",
        ),
        (
            "",
            "Incompatible pairs",
            counts.incompatible.to_string(),
            "the interval lies below 0",
        ),
    ] {
        writeln!(
            out,
            "<tr><th scope=\"row\">{name} <abbr>{short}</abbr></th><td class=\"n strong\">{value}</td><td>{meaning}</td></tr>"
        )?;
    }
    out.push_str("</tbody>\n</table>\n</div>\n<p class=\"note\">All figures are fractions; signed figures are differences of fractions.</p>\n</section>\n");
    Ok(())
}

fn write_retrieval(out: &mut String, report: &Compatibility) -> fmt::Result {
    out.push_str("<section aria-labelledby=\"retrieval\">\n<h2 id=\"retrieval\">Retrieval</h2>\n");
    write_scores(
        out,
        report,
        "Self-tests: each version on its own gallery",
        |t, k| t == k,
    )?;
    if report.versions().len() > 1 {
        out.push_str("<details>\n<summary>Cross-tests: each version on the galleries of older versions</summary>\n");
        write_scores(out, report, "Cross-tests", |t, k| t != k)?;
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
    Ok(())
}

fn write_scores(
    out: &mut String,
    report: &Compatibility,
    caption: &str,
    shown: impl Fn(usize, usize) -> bool,
) -> fmt::Result {
    writeln!(
        out,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\">\n<table class=\"scores\">\n<caption>{caption}</caption>\n\
         <thead><tr><th scope=\"col\">Query version</th><th scope=\"col\">Gallery version</th>\
         <th scope=\"col\" class=\"n\">Class mean top-1</th><th scope=\"col\" class=\"n\">CMC<wbr>@1</th><th scope=\"col\" class=\"n\">CMC<wbr>@5</th>\
         <th scope=\"col\" class=\"n\">CMC<wbr>@10</th><th scope=\"col\" class=\"n\">mAP</th></tr></thead>\n<tbody>"
    )?;
    let versions = report.versions();
    for (t, row) in report.retrieval().iter().enumerate() {
        for (k, scores) in row.iter().enumerate().filter(|&(k, _)| shown(t, k)) {
            write!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td>",
                Escaped(&versions[t]),
                Escaped(&versions[k])
            )?;
            for score in [
                scores.ncm_top1,
                scores.cmc1,
                scores.cmc5,
                scores.cmc10,
                scores.map,
            ] {
                write!(out, "<td class=\"n\">{score:.4}</td>")?;
            }
            out.push_str("</tr>\n");
        }
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    Ok(())
}

fn write_method(out: &mut String, report: &Compatibility) -> fmt::Result {
    let (queries, gallery, bootstrap) = (report.queries(), report.gallery(), report.bootstrap());
    write!(
        out,
        "<footer>\n<h2>How to read this</h2>\n<ul>\n\
         <li><b>Accuracy</b> is nearest-class-mean top-1: a query is right when the mean embedding of its own class in the gallery is \
         more similar to it (cosine) than that of any other class.</li>\n\
         <li>A <b>self-test</b> embeds queries and gallery with one version, a <b>cross-test</b> embeds the queries with a newer version \
         than the gallery.</li>\n\
         <li>The <b>margin</b> of a pair is its cross-test minus the old self-test. Its 95 % interval is a paired-bootstrap percentile \
         interval ({} resamples of the queries, seed {}). Intervals are computed pair by pair, without a correction for the number of \
         pairs.</li>\n\
         <li>The intervals describe the choice of queries. They do not describe how much a training with another seed would differ.</li>\n\
         <li>Queries: {}, SHA-256 <code>{}</code></li>\n<li>Gallery: {}, SHA-256 <code>{}</code></li>\n</ul>\n</footer>\n",
        Grouped(bootstrap.resamples),
        bootstrap.seed,
        Escaped(&queries.name),
        Escaped(&queries.sha256),
        Escaped(&gallery.name),
        Escaped(&gallery.sha256),
    )
}

/// Text made safe for element content and quoted attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A difference with its sign and this many decimals; what rounds to zero has no sign.
struct Signed(f64, usize);

impl Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(value, decimals) = self;
        let digits = format!("{:.decimals$}", value.abs());
        let zero = digits
            .chars()
            .all(|character| matches!(character, '0' | '.'));
        let sign = match value {
            _ if zero => "",
            value if value < 0.0 => "\u{2212}",
            _ => "+",
        };
        write!(f, "{sign}{digits}")
    }
}

/// A count with thin spaces between groups of three digits.
struct Grouped(usize);

impl Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// At most `length` characters of a name, the last one an ellipsis where something is missing.
fn shortened(name: &str, length: usize) -> String {
    if name.chars().count() <= length {
        return name.to_owned();
    }
    name.chars()
        .take(length.saturating_sub(1))
        .chain(['\u{2026}'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(
            Escaped("<a b='c'>&\"").to_string(),
            "&lt;a b=&#39;c&#39;&gt;&amp;&quot;"
        );
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(Signed(-0.01234, 3).to_string(), "\u{2212}0.012");
        assert_eq!(Signed(0.01234, 3).to_string(), "+0.012");
        assert_eq!(Signed(-0.00001, 3).to_string(), "0.000");
        assert_eq!(Grouped(1_234_567).to_string(), "1\u{202f}234\u{202f}567");
        assert_eq!(Grouped(999).to_string(), "999");
    }

    #[test]
    fn long_names_are_shortened_by_characters() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer", 4), "grö\u{2026}");
    }
}
