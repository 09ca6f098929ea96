//! Queries whose first hit changed from wrong to right or from right to wrong.

use maud::{Markup, html};
use perennial_core::ItemId;

use super::page;

/// A query whose first hit changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Flip {
    /// Whether it is right now and was wrong before; otherwise the reverse.
    pub gained: bool,
    /// The query.
    pub query: FlipItem,
    /// The first hit before.
    pub old_hit: FlipItem,
    /// The first hit now.
    pub new_hit: FlipItem,
}

/// A query or a hit.
#[derive(Debug, Clone, PartialEq)]
pub struct FlipItem {
    /// Its id.
    pub id: ItemId,
    /// Its class, where it has one.
    pub label: Option<String>,
    /// A small picture as a base64 `data:` URI (PNG, JPEG, GIF, WebP or AVIF).
    pub picture: Option<String>,
}

/// Flips shown of either kind.
const SHOWN: usize = 24;
/// The pictures that are shown; a drawing (SVG) could hold more than a picture.
const FORMATS: [&str; 5] = ["png", "jpeg", "gif", "webp", "avif"];

pub(super) fn section(flips: &[Flip]) -> Markup {
    if flips.is_empty() {
        return html! {};
    }
    let content = html! {
        (group(flips, false, "Lost: right before, wrong now"))
        (group(flips, true, "Gained: wrong before, right now"))
    };
    page::section("flips", "Flips", content)
}

fn group(flips: &[Flip], gained: bool, heading: &str) -> Markup {
    let flips: Vec<&Flip> = flips.iter().filter(|flip| flip.gained == gained).collect();
    if flips.is_empty() {
        return html! {};
    }
    html! {
        h3 { (heading) }
        ul.flips {
            @for flip in flips.iter().take(SHOWN) {
                li class=(if gained { "good" } else { "bad" }) {
                    (shown("query", "asked", &flip.query))
                    (shown("hit before", side(!gained), &flip.old_hit))
                    (shown("hit now", side(gained), &flip.new_hit))
                }
            }
        }
        @if flips.len() > SHOWN { p.note { (SHOWN) " of " (flips.len()) " are shown." } }
    }
}

fn side(right: bool) -> &'static str {
    if right { "right" } else { "wrong" }
}

fn shown(part: &str, class: &str, item: &FlipItem) -> Markup {
    let picture = item.picture.as_deref().filter(|uri| is_picture(uri));
    html! {
        div class={ "item " (class) } {
            small { (part) @if class != "asked" { ", " (class) } }
            @if let Some(picture) = picture { img src=(picture) alt="" loading="lazy"; }
            b { (item.id) }
            @if let Some(label) = &item.label { span { (label) } }
        }
    }
}

/// Whether this is a base64 `data:` URI of a bitmap.
fn is_picture(uri: &str) -> bool {
    let content = uri.strip_prefix("data:image/");
    let Some((format, data)) = content.and_then(|content| content.split_once(";base64,")) else {
        return false;
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    FORMATS.contains(&format) && !data.is_empty() && data.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bitmaps_within_the_page_are_shown() {
        assert!(is_picture("data:image/png;base64,iVBORw0KGgo="));
        for other in [
            "",
            "https://example.org/x.png",
            "data:image/svg+xml;base64,PHN2Zz4=",
            "data:text/html;base64,PGI+",
            "data:image/png;base64,",
            "data:image/png;base64,a\" onerror=\"b",
            "data:image/png,abc",
            "javascript:alert(1)",
        ] {
            assert!(!is_picture(other), "{other}");
        }
    }
}
