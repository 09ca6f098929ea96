//! The page of certificate and advice: complete, escaped, well-formed, and without sections that have nothing to show.
#![allow(clippy::unwrap_used)]

use perennial_core::ItemId;
use perennial_eval::Verdict;
use perennial_eval::html::certificate_page::{
    Advice, CertificatePage, EmbeddingMap, MapPoint, Outcome, ShareCurve, Task, TaskVerdict,
};

#[path = "../examples/sample_pages/upgrade.rs"]
mod upgrade;
mod well_formed;

/// The content of the page without the style sheet.
fn body(page: &CertificatePage) -> String {
    let text = page.render();
    well_formed::assert_balanced(&text, "page");
    well_formed::assert_self_contained(&text, "page");
    text.split_once("</style>").unwrap().1.to_owned()
}

/// A figure as the page writes it.
fn written(value: f64, decimals: usize) -> String {
    format!("{:.decimals$}", value.abs())
}

#[test]
fn every_number_appears() {
    let page = upgrade::upgrade();
    let text = body(&page);
    let advice = page.advice.clone().unwrap();
    let shares = advice.shares.clone().unwrap();
    let mut figures = Vec::new();
    for row in &page.measures {
        let interval = row.interval.map(|bounds| [bounds.low, bounds.high]);
        figures.extend([row.old_self, row.cross, row.margin]);
        figures.extend(interval.into_iter().flatten());
        figures.extend(
            [row.new_self, row.positive_flips, row.negative_flips]
                .into_iter()
                .flatten(),
        );
        if let Some(recovery) = row.upgrade_recovery {
            assert!(text.contains(&written(recovery, 3)), "{recovery}");
        }
    }
    for way in &advice.ways {
        figures.extend(way.negative_flips);
        for quality in &way.quality {
            let interval = quality.interval.map(|bounds| [bounds.low, bounds.high]);
            figures.push(quality.value);
            figures.extend(quality.margin);
            figures.extend(interval.into_iter().flatten());
        }
        for money in [way.once.money, way.per_million_queries.money]
            .into_iter()
            .flatten()
        {
            assert!(text.contains(&format!("{money:.2} EUR")), "{money}");
        }
    }
    figures.extend(
        shares
            .lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|point| point.1),
    );
    figures.extend(shares.levels.iter().map(|level| level.1));
    for figure in figures {
        assert!(text.contains(&written(figure, 4)), "{figure}");
    }
    for words in [
        // Twenty-six hours of computing, 18,720 and 3,100 seconds.
        "1 d 2 h",
        "5 h 12 min",
        "51 min 40 s",
        "1\u{202f}500",
        "5\u{202f}000 \u{d7} 384",
        "1\u{202f}500 matches, 60\u{202f}000 non-matches",
        "2026-11-25 21:35 UTC",
        "perennial 0.2.0",
        "--seed 7",
        "95\u{a0}% interval",
    ] {
        assert!(text.contains(words), "{words}");
    }
    for file in &page.provenance.files {
        assert!(text.contains(&file.name) && text.contains(file.sha256.as_deref().unwrap()));
    }
    assert_eq!(text.matches(" recommended</span>").count(), 1);
    assert_eq!(
        text.matches("<img ").count(),
        12,
        "three pictures for each flip that has some"
    );
}

#[test]
fn other_confidences_are_named() {
    for (confidence, name) in [
        (0.99, "99\u{a0}% interval"),
        (0.975, "97.5\u{a0}% interval"),
        (f64::NAN, "95\u{a0}% interval"),
    ] {
        let page = CertificatePage {
            confidence,
            ..upgrade::upgrade()
        };
        assert!(body(&page).contains(name), "{name}");
    }
}

#[test]
fn hostile_texts_stay_texts() {
    let hostile = "</td><script>alert('x')</script>\"&<img src=x onerror=y>";
    let shown =
        "&lt;/td&gt;&lt;script&gt;alert('x')&lt;/script&gt;&quot;&amp;&lt;img src=x onerror=y&gt;";
    let mut page = upgrade::upgrade();
    let count = std::cell::Cell::new(0);
    let replace = |text: &mut String| {
        hostile.clone_into(text);
        count.set(count.get() + 1);
    };
    replace(&mut page.query_space);
    replace(&mut page.item_space);
    replace(page.bridge.as_mut().unwrap());
    replace(&mut page.warnings[0]);
    replace(&mut page.verdicts[0].sentence);
    replace(page.verdicts[1].remedy.as_mut().unwrap());
    replace(&mut page.measures[0].measure);
    replace(&mut page.measures[0].route);
    replace(&mut page.scores[0].name);
    replace(&mut page.maps.groups[0]);
    replace(&mut page.maps.maps[0].name);
    let advice = page.advice.as_mut().unwrap();
    replace(&mut advice.sentence);
    replace(&mut advice.ways[0].name);
    replace(advice.ways[0].note.as_mut().unwrap());
    replace(&mut advice.ways[0].quality[0].measure);
    replace(&mut advice.currency);
    let shares = advice.shares.as_mut().unwrap();
    replace(&mut shares.measure);
    replace(&mut shares.lines[0].name);
    replace(&mut shares.levels[0].0);
    let provenance = &mut page.provenance;
    replace(&mut provenance.files[0].role);
    replace(&mut provenance.files[0].name);
    replace(provenance.files[0].sha256.as_mut().unwrap());
    replace(&mut provenance.settings[0].0);
    replace(&mut provenance.settings[0].1);
    replace(provenance.measured.as_mut().unwrap());
    replace(provenance.program.as_mut().unwrap());
    replace(provenance.command.as_mut().unwrap());
    let flip = &mut page.flips[0];
    for item in [&mut flip.query, &mut flip.old_hit, &mut flip.new_hit] {
        let mut id = String::new();
        replace(&mut id);
        item.id = ItemId::Text(id);
        replace(item.label.as_mut().unwrap());
        hostile.clone_into(item.picture.as_mut().unwrap());
    }
    let text = body(&page);
    assert!(!text.contains("<script") && !text.contains("<img src=x"));
    assert!(
        !text.contains(" onerror=y>"),
        "no attribute and no tag is left"
    );
    // Every text is shown at least once; the pictures are left out.
    let found = text.matches(shown).count();
    assert!(found >= count.get(), "{found} of {}", count.get());
}

#[test]
fn empty_sections_are_left_out() {
    let full = upgrade::upgrade();
    let headings = [
        "ways",
        "shares",
        "measures",
        "scores",
        "map",
        "flips",
        "provenance",
        "limits",
    ];
    let shown = |page: &CertificatePage| -> Vec<&str> {
        let text = body(page);
        headings
            .into_iter()
            .filter(|id| text.contains(&format!("<h2 id=\"{id}\"")))
            .collect()
    };
    assert_eq!(shown(&full), headings);
    let empty = CertificatePage::default();
    assert!(shown(&empty).is_empty());
    assert!(body(&empty).contains("<h1>No task was measured</h1>"));
    let without = |change: &dyn Fn(&mut CertificatePage), gone: &[&str]| {
        let mut page = full.clone();
        change(&mut page);
        let left: Vec<&str> = headings
            .into_iter()
            .filter(|id| !gone.contains(id))
            .collect();
        assert_eq!(shown(&page), left);
    };
    without(&|page| page.advice = None, &["ways", "shares"]);
    without(
        &|page| page.advice.as_mut().unwrap().shares = None,
        &["shares"],
    );
    without(
        &|page| page.advice.as_mut().unwrap().shares = Some(ShareCurve::default()),
        &["shares"],
    );
    without(
        &|page| page.advice.as_mut().unwrap().ways.clear(),
        &["ways"],
    );
    without(&|page| page.measures.clear(), &["measures"]);
    without(&|page| page.scores.clear(), &["scores"]);
    without(
        &|page| page.maps.maps.iter_mut().for_each(|map| map.points.clear()),
        &["map"],
    );
    without(&|page| page.flips.clear(), &["flips"]);
    without(&|page| page.warnings.clear(), &["limits"]);
    without(
        &|page| page.provenance = Default::default(),
        &["provenance"],
    );
}

#[test]
fn the_headline_is_the_verdict_or_the_recommendation() {
    let verdict = |task, outcome| TaskVerdict {
        task,
        outcome,
        sentence: "The reason.".to_owned(),
        remedy: None,
    };
    let headline = |class: Outcome, item: Outcome| {
        let page = CertificatePage {
            verdicts: vec![
                verdict(Task::ClassLike, class),
                verdict(Task::ItemLike, item),
            ],
            ..CertificatePage::default()
        };
        let text = body(&page);
        let (_, rest) = text.split_once("<h1>").unwrap();
        rest.split_once("</h1>").unwrap().0.to_owned()
    };
    let (good, open, bad) = (
        Verdict::Compatible.into(),
        Verdict::Undecided.into(),
        Verdict::Incompatible.into(),
    );
    for (class, item, expected) in [
        (
            good,
            good,
            "Compatible for class-like and item-like retrieval",
        ),
        (
            good,
            open,
            "Compatible for class-like retrieval, undecided for item-like retrieval",
        ),
        (
            open,
            bad,
            "Undecided for class-like retrieval, incompatible for item-like retrieval",
        ),
        (
            bad,
            Outcome::CannotTell,
            "Incompatible for class-like retrieval, cannot tell for item-like retrieval",
        ),
    ] {
        assert_eq!(headline(class, item), expected);
    }
    let full = upgrade::upgrade();
    let advice = full.advice.clone().unwrap();
    assert!(body(&full).contains(&format!("<h1>{}</h1>", advice.sentence)));
    // Without a recommendation the verdicts are what there is to say.
    let silent = CertificatePage {
        advice: Some(Advice {
            sentence: String::new(),
            ..advice
        }),
        ..full
    };
    assert!(body(&silent).contains("<h1>Compatible for class-like retrieval, undecided"));
}

#[test]
fn what_is_no_number_is_not_drawn() {
    let mut page = upgrade::upgrade();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let row = &mut page.measures[0];
        (row.old_self, row.cross, row.margin, row.new_self) = (value, value, value, Some(value));
        row.interval.as_mut().unwrap().low = value;
        row.upgrade_recovery = Some(value);
        let advice = page.advice.as_mut().unwrap();
        advice.ways[0].quality[0].value = value;
        advice.ways[0].once.seconds = Some(value);
        advice.ways[0].once.money = Some(value);
        let shares = advice.shares.as_mut().unwrap();
        shares.lines[0].points[1] = (value, value);
        shares.levels[0].1 = value;
        page.scores[0].low = value;
        let point = MapPoint {
            x: value,
            y: value,
            group: 0,
            newer: false,
        };
        page.maps.maps.push(EmbeddingMap {
            name: "one".to_owned(),
            explained: Some(value),
            points: vec![point],
        });
        let text = body(&page);
        assert!(
            !text.contains("NaN") && !text.contains("inf,") && !text.contains("\"inf"),
            "{value}"
        );
    }
}

#[test]
fn names_that_are_cut_at_the_ends_of_lines_are_whole_in_a_legend() {
    let legend = |name: &str| {
        let mut page = upgrade::upgrade();
        let shares = page.advice.as_mut().unwrap().shares.as_mut().unwrap();
        shares.lines.truncate(1);
        shares.lines[0].name = "asked".to_owned();
        shares.levels = vec![(name.to_owned(), 0.5)];
        let text = body(&page);
        let (_, shares) = text
            .split_once("<section aria-labelledby=\"shares\">")
            .unwrap();
        let (drawing, _) = shares.split_once("</section>").unwrap();
        let (_, legend) = drawing.split_once("<div class=\"legend").unwrap();
        legend.split_once("</div>").unwrap().0.to_owned()
    };
    let short = legend("nothing");
    assert!(short.starts_with(" narrow\""), "only on a phone: {short}");
    let long = legend("dual queries, low_rank:8,0.001, weight 0.125");
    assert!(long.starts_with('"'), "on every screen: {long}");
    assert!(
        long.contains("dual queries, low_rank:8,0.001, weight 0.125 0.500"),
        "{long}"
    );
}

#[test]
fn every_part_has_a_name_of_its_own() {
    let text = body(&upgrade::upgrade());
    let named = |mark: &str| -> Vec<String> {
        text.split(mark)
            .skip(1)
            .map(|rest| rest.split_once('"').unwrap().0.to_owned())
            .collect()
    };
    let mut names: Vec<String> = named("role=\"region\" aria-label=\"");
    assert!(names.len() >= 2, "{names:?}");
    let headings: Vec<String> = named("<h2 id=\"")
        .iter()
        .map(|id| {
            let (_, rest) = text.split_once(&format!("<h2 id=\"{id}\">")).unwrap();
            rest.split_once("</h2>").unwrap().0.to_owned()
        })
        .collect();
    names.extend(headings);
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
}
