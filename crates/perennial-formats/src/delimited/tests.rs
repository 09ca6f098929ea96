use super::*;
use crate::testing::{file, problem, read};
use perennial_core::ItemId;

#[test]
fn tables_of_other_programs_are_read() {
    let pandas = ",id,e0,e1,price,name\n0,007,1.5,-2,3.25,x\n1,8, 0,1e-3,,\"y, z\"\n";
    let set = read(pandas).unwrap();
    assert_eq!(set.ids().unwrap(), ["007".into(), ItemId::Number(8)]);
    assert_eq!(set.vectors(), [1.5, -2.0, 0.0, 0.001]);
    let payload = |json| serde_json::from_str::<Payload>(json).unwrap();
    let expected = [
        payload(r#"{"price":3.25,"name":"x"}"#),
        payload(r#"{"name":"y, z"}"#),
    ];
    assert_eq!(set.payload().unwrap(), expected);

    let tabs = "\u{feff}id\tlabel\tembedding\nq\t-3\t[1, 2]\n";
    let set = read(tabs).unwrap();
    assert_eq!(set.labels().unwrap(), [(-3_i64).into()]);
    let numbers = read("0;1;2\n1;2;3\n4;5;6\n").unwrap();
    assert_eq!((numbers.dim(), numbers.len()), (3, 2));
    // Columns of a group may come in any order, and other numbers mean nothing.
    let shuffled = read("dim_1,dim_0,x9\n1,2,3\n").unwrap();
    assert_eq!(shuffled.vectors(), [2.0, 1.0]);
    assert_eq!(shuffled.payload().unwrap()[0]["x9"], 3);
}

#[test]
fn cells_keep_what_they_are() {
    for (cell, value) in [
        ("12", Value::from(12)),
        ("-1.50", Value::from(-1.5)),
        ("true", Value::from(true)),
        ("007", Value::from("007")),
        (
            "1234567890123456789012345",
            Value::from("1234567890123456789012345"),
        ),
        ("NaN", Value::from("NaN")),
        ("[1]", Value::from("[1]")),
    ] {
        assert_eq!(entry(cell), value, "{cell}");
    }
}

#[test]
fn errors_name_the_line() {
    for (text, says) in [
        ("id,name\n1,a\n", "line 1 names no column `embedding`"),
        ("id,embedding\n", "holds no rows"),
        ("id,e0,e2\n1,2,3\n", "at least one is missing"),
        ("e0,v0\n1,2\n", "two groups"),
        ("id,_id,embedding\n1,2,[1]\n", "second column"),
        ("a,a,embedding\n1,2,[1]\n", "`a` twice"),
        ("id,embedding\n1,[1]\n2,[1\n", "line 3 holds `embedding`"),
        (
            "id,embedding\n1,\"[1,2]\"\n2,[1]\n",
            "line 3 holds 1 values",
        ),
        ("id,embedding\n1,[1]\n2,[1],3\n", "line 3 has 3 columns"),
        ("id,embedding\n1,[1]\n,[1]\n", "line 3 lacks an id"),
        ("id,e0\n1,x\n", "line 2 holds \"x\" in the column `e0`"),
        (
            "id,e0\n1,inf\n",
            "line 2 holds a value that is NaN, infinite",
        ),
        ("id,e0,payload\n1,1,[]\n", "not a JSON object"),
        ("id,e0,a,payload\n1,1,2,\"{\"\"a\"\":1}\"\n", "beside it"),
    ] {
        let found = problem(text);
        assert!(found.contains(says), "{text}: {found}");
    }
    assert!(problem(b"id,embedding\n\xff,[1]\n").contains("is not UTF-8"));
}

#[test]
fn endless_rows_are_refused() {
    let text = format!(
        "id,embedding\n1,\"[{}",
        " 1,\n".repeat(MAX_LINE_BYTES as usize / 2)
    );
    assert!(problem(text).contains("a quotation mark may not be closed"));
}

#[test]
fn separators_are_found() {
    for (line, separator_found) in [
        ("a,b", b','),
        ("a\tb", b'\t'),
        ("a;b;c", b';'),
        ("a", NOTHING),
    ] {
        assert_eq!(separator(line), separator_found);
    }
    let (_folder, path) = file("id\tembedding\n1\t[1,2]\n");
    assert_eq!(crate::detect(&path).unwrap(), Format::Csv);
}

#[test]
fn a_single_column_is_not_separated_whatever_the_ending() {
    let set = VectorSet::new(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.tsv", "a.csv"] {
        let path = folder.path().join(name);
        let (output, format) = crate::prepare(&path).unwrap();
        let header = Header {
            dim: 2,
            rows: None,
            space: None,
            format,
        };
        let mut writer = crate::create(output, format, &header).unwrap();
        writer.write(&set).unwrap();
        writer.finish().unwrap();
        assert_eq!(crate::read(&path).unwrap(), set, "{name}");
    }
}

#[test]
fn a_header_may_name_very_many_columns() {
    let names: Vec<String> = (0..200_000).map(|number| format!("c{number}")).collect();
    // Comparing every name with every earlier one would take minutes here.
    let text = format!("id,embedding,{}\n", names.join(","));
    assert!(problem(text).contains("holds no rows"));
    let text = format!("id,embedding,{},c7\n", names.join(","));
    assert!(problem(text).contains("`c7` twice"));
}
