//! The frame of every page: head, style sheet, body. Self-contained: no script, no network, light and dark, printable.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = concat!(
    include_str!("report.css"),
    include_str!("certificate_page.css")
);

/// The name by which a page is recognised as one of this program's.
pub(super) const GENERATOR: &str = "perennial";

/// What a browser may load: nothing but the style sheet inside the page and pictures that are part of the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// A page with this title and this content of `main`.
pub(super) fn page(title: &str, content: Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="generator" content=(GENERATOR);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (content) } }
        }
    }
    .into_string()
}

/// The head of a page: what it is, what it says, and the facts below.
pub(super) fn header(
    kicker: &str,
    headline: &str,
    lead: Markup,
    facts: &[(&str, Markup)],
) -> Markup {
    html! {
        header {
            p.kicker { (kicker) }
            h1 { (headline) }
            (lead)
            @if !facts.is_empty() {
                dl.facts {
                    @for (name, value) in facts { div { dt { (name) } dd { (value) } } }
                }
            }
        }
    }
}

/// A section with its heading.
pub(super) fn section(id: &str, heading: &str, content: Markup) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (heading) }
            (content)
        }
    }
}

/// Something wide in a box of its own that scrolls, so that the page never does. `label` is read to those who do not see it.
pub(super) fn scroll(label: &str, content: Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label={ (label) ", the table" } { (content) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_and_headings_are_escaped() {
        let text = page("<a b='c'>&\"", section("x", "<i>", html! {}));
        assert!(text.contains("<title>&lt;a b='c'&gt;&amp;&quot;</title>"));
        assert!(text.contains("<h2 id=\"x\">&lt;i&gt;</h2>"));
    }
}
