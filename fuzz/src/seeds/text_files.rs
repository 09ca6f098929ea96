//! Lists of images, and slots.

use super::Seeds;

pub(super) fn list_seeds() -> Seeds {
    let cub = |lists: [&str; 3]| [b"0", lists.join("\n%%\n").as_bytes()].concat();
    let celeba = |lists: [&str; 2]| [b"1", lists.join("\n%%\n").as_bytes()].concat();
    let images = "1 001.A/a.jpg\n2 002.B/b.jpg\n3 002.B/c.jpg";
    let (labels, split) = ("1 1\n2 200\n3 2", "1 1\n2 0\n3 0");
    let (people, parts) = (
        "000001.jpg 10177\n000002.jpg 1",
        "000001.jpg 0\n000002.jpg 2",
    );
    vec![
        ("cub", cub([images, labels, split])),
        ("celeba", celeba([people, parts])),
        ("refused_label", cub([images, "1 1\n2 201\n3 2", split])),
        ("refused_cut", cub([images, labels, "1 1\n2 0"])),
        ("refused_twice", cub(["1 a.jpg\n1 b.jpg", labels, split])),
        ("refused_outside", cub(["1 ../outside.jpg", "1 1", "1 1"])),
        (
            "refused_outside_in_another_split",
            cub(["1 001.A/a.jpg\n2 /c.jpg", "1 1\n2 2", "1 1\n2 0"]),
        ),
        ("refused_root", celeba(["/etc/passwd 1", "/etc/passwd 1"])),
        (
            "refused_part",
            celeba([people, "000001.jpg 3\n000002.jpg 2"]),
        ),
    ]
}

pub(super) fn slot_seeds() -> Seeds {
    let slot = |vertices: u64, owner: &str, first: u64, end: u64| {
        format!(
            "[[slot]]\nvertices = {vertices}\nowner = \"{owner}\"\nfirst = {first}\nend = {end}\ncreated = \"2026-11-22T21:35:00Z\"\n"
        )
    };
    let file =
        |slots: &[String]| format!("format_version = 1\n\n{}", slots.join("\n")).into_bytes();
    vec![
        ("none", file(&[])),
        (
            "several",
            file(&[
                slot(1024, "animals", 924, 1024),
                slot(16, "base", 0, 4),
                slot(16, "a.b-c_1", 14, 16),
            ]),
        ),
        ("full", file(&[slot(16, "base", 0, 16)])),
        (
            "larger",
            file(&[slot(16, "base", 0, 4), slot(32, "base", 0, 4)]),
        ),
        (
            "refused_overlap",
            file(&[slot(16, "a", 0, 4), slot(16, "b", 3, 5)]),
        ),
        (
            "refused_owner_twice",
            file(&[slot(16, "a", 0, 4), slot(16, "a", 4, 5)]),
        ),
        ("refused_owner", file(&[slot(16, "../a", 0, 4)])),
        ("refused_range", file(&[slot(16, "a", 12, 17)])),
        ("refused_simplex", file(&[slot(1 << 40, "a", 0, 4)])),
        ("refused_format", b"format_version = 2\n".to_vec()),
    ]
}
