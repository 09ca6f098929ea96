//! The modules of a crate as its source declares them, without those of tests: what each defines, imports and names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::tokens::{Token, tokens};

/// A path as it is written, such as `["crate", "space", "SpaceId"]`.
pub type Written = Vec<String>;

/// One module: a file, or a block of one.
pub struct Module {
    /// Names from the root of the crate on.
    pub path: Vec<String>,
    pub file: PathBuf,
    /// Positions of the modules in it.
    pub children: BTreeMap<String, usize>,
    /// Names that it defines itself.
    pub defined: BTreeSet<String>,
    pub imports: Vec<Import>,
    /// Paths in code and attributes, outside of imports.
    pub paths: Vec<Written>,
}

/// One name of a `use`.
pub struct Import {
    /// The name that it gets here; `*` for all names of a module.
    pub name: String,
    pub path: Written,
    /// `pub`, for whomever.
    pub public: bool,
}

/// The modules of a crate; the root comes first.
pub struct Modules {
    pub all: Vec<Module>,
    /// Files that take the place of others in builds with other features.
    pub instead: BTreeMap<PathBuf, PathBuf>,
    /// Files, and folders of files, that only tests have.
    pub of_tests: BTreeSet<PathBuf>,
}

/// Words that begin an item, which ends with a block or a semicolon; anything else may end with a comma as well.
const ITEMS: [&str; 16] = [
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "macro_rules",
    "mod",
    "pub",
    "static",
    "struct",
    "trait",
    "type",
    "union",
    "unsafe",
    "use",
];
/// Items that end with a semicolon only.
const STATEMENTS: [&str; 4] = ["const", "static", "type", "use"];
/// Words that stand before a name that they define.
const DEFINING: [&str; 8] = [
    "const", "enum", "fn", "static", "struct", "trait", "type", "union",
];

impl Modules {
    /// Reads a crate from its root, such as `src/lib.rs`. `read` gives a file's content, or nothing where there is no such file.
    pub fn of(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut modules = Self {
            all: Vec::new(),
            instead: BTreeMap::new(),
            of_tests: BTreeSet::new(),
        };
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        modules.file(Vec::new(), root, &folder, read);
        modules
    }

    /// Reads a module that is a file of its own. Modules that it declares lie in `folder`.
    fn file(
        &mut self,
        path: Vec<String>,
        file: &Path,
        folder: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> usize {
        let source = read(file).unwrap_or_else(|| panic!("{} cannot be read", file.display()));
        let module = self.add(path, file);
        self.block(module, &tokens(&source), folder, read);
        module
    }

    fn add(&mut self, path: Vec<String>, file: &Path) -> usize {
        self.all.push(Module {
            path,
            file: file.to_owned(),
            children: BTreeMap::new(),
            defined: BTreeSet::new(),
            imports: Vec::new(),
            paths: Vec::new(),
        });
        self.all.len() - 1
    }

    fn block(
        &mut self,
        module: usize,
        code: &[Token<'_>],
        folder: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let mut depth = 0_usize;
        let mut at = 0;
        // Of a `path` attribute, for the module that follows.
        let mut elsewhere = None;
        let mut public = false;
        while at < code.len() {
            let was_public = std::mem::take(&mut public);
            match code[at] {
                Token::Mark("#") => {
                    let open = at + 1 + usize::from(is(code, at + 1, "!"));
                    if !is(code, open, "[") {
                        at += 1;
                        continue;
                    }
                    let end = closing(code, open);
                    let attribute = &code[open + 1..end];
                    at = end + 1;
                    if is_of_tests(attribute) {
                        at = self.skip(module, code, at, folder);
                        continue;
                    }
                    if let Some(path) = path_attribute(attribute) {
                        elsewhere = Some((path.to_owned(), is(attribute, 0, "cfg_attr")));
                    }
                    self.attribute(module, attribute);
                }
                Token::Word("pub") => {
                    at += 1;
                    if is(code, at, "(") {
                        at = closing(code, at) + 1;
                    }
                    public = true;
                }
                // Not the `use<...>` of a type.
                Token::Word("use") if !is(code, at + 1, "<") => {
                    let end = (at..code.len()).find(|&end| is(code, end, ";"));
                    let end = end.unwrap_or(code.len());
                    self.import(module, &code[at + 1..end], &[], was_public);
                    at = end + 1;
                }
                Token::Word("mod") if is(code, at + 2, ";") => {
                    let name = word(code, at + 1);
                    self.declared(module, name, folder, elsewhere.take(), read);
                    at += 3;
                }
                Token::Word("mod") if is(code, at + 2, "{") => {
                    let name = word(code, at + 1);
                    let end = closing(code, at + 2);
                    let file = self.all[module].file.clone();
                    let child = self.add(self.path_of(module, name), &file);
                    self.all[module].children.insert(name.to_owned(), child);
                    self.block(child, &code[at + 3..end], &folder.join(name), read);
                    at = end + 1;
                }
                Token::Word(keyword) => {
                    if depth == 0
                        && DEFINING.contains(&keyword)
                        && let Some(Token::Word(name)) = code.get(at + 1)
                        && !ITEMS.contains(name)
                    {
                        self.all[module].defined.insert((*name).to_owned());
                    }
                    if keyword == "macro_rules" && is(code, at + 1, "!") {
                        let name = word(code, at + 2).to_owned();
                        self.all[module].defined.insert(name);
                    }
                    at = self.path(module, code, at);
                }
                Token::Mark(mark) => {
                    match mark {
                        "{" => depth += 1,
                        "}" => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    at += 1;
                }
                Token::Text(_) => at += 1,
            }
        }
    }

    fn path_of(&self, module: usize, name: &str) -> Vec<String> {
        let mut path = self.all[module].path.clone();
        path.push(name.to_owned());
        path
    }

    /// Reads a module that is declared with `mod name;`.
    fn declared(
        &mut self,
        module: usize,
        name: &str,
        folder: &Path,
        elsewhere: Option<(String, bool)>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let beside = self.all[module].file.parent().unwrap_or(Path::new(""));
        let other = elsewhere
            .as_ref()
            .map(|(path, conditional)| (beside.join(path), *conditional));
        let usual = [
            folder.join(format!("{name}.rs")),
            folder.join(name).join("mod.rs"),
        ];
        let file = match &other {
            Some((other, false)) => other.clone(),
            _ => {
                let found = usual.iter().find(|file| read(file).is_some());
                found
                    .unwrap_or_else(|| panic!("{} does not exist", usual[0].display()))
                    .clone()
            }
        };
        let path = self.path_of(module, name);
        let child = self.file(path.clone(), &file, &folder.join(name), read);
        let earlier = self.all[module].children.insert(name.to_owned(), child);
        if let Some(earlier) = earlier {
            // Declared twice, for builds with and without a feature: its names lead to both files.
            let earlier = self.all[earlier].file.clone();
            self.instead.insert(file.clone(), earlier);
        }
        if let Some((other, true)) = other {
            self.file(path, &other, &folder.join(name), read);
            self.instead.insert(file, other);
        }
    }

    /// Passes over what an attribute gives to tests alone. Returns where the code goes on.
    fn skip(&mut self, module: usize, code: &[Token<'_>], mut at: usize, folder: &Path) -> usize {
        let mut elsewhere = None;
        while is(code, at, "#") && is(code, at + 1, "[") {
            let end = closing(code, at + 1);
            elsewhere = path_attribute(&code[at + 2..end]).or(elsewhere);
            at = end + 1;
        }
        let start = at;
        let first = word(code, at);
        let mut keyword = first;
        while at < code.len() {
            match code[at] {
                Token::Word("mod") if is(code, at + 2, ";") => {
                    let name = word(code, at + 1);
                    let beside = self.all[module].file.parent().unwrap_or(Path::new(""));
                    self.of_tests.insert(match elsewhere {
                        Some(path) => beside.join(path),
                        None => folder.join(format!("{name}.rs")),
                    });
                    self.of_tests.insert(folder.join(name));
                }
                Token::Word(other) if keyword == "pub" && at > start => keyword = other,
                // `const fn` is no constant.
                Token::Word("async" | "extern" | "fn" | "unsafe")
                    if at > start && is(code, at - 1, "const") =>
                {
                    keyword = "fn";
                }
                Token::Mark("{") => {
                    at = closing(code, at) + 1;
                    if !STATEMENTS.contains(&keyword) {
                        return at;
                    }
                    continue;
                }
                Token::Mark("(" | "[") => {
                    at = closing(code, at) + 1;
                    continue;
                }
                Token::Mark(";") => return at + 1,
                Token::Mark(",") if !ITEMS.contains(&first) => return at + 1,
                // The end of the block that holds it, such as behind the last field.
                Token::Mark("}") => return at,
                _ => {}
            }
            at += 1;
        }
        at
    }

    /// Takes what an attribute names; serde's also names paths in texts.
    fn attribute(&mut self, module: usize, attribute: &[Token<'_>]) {
        let mut at = 0;
        while at < attribute.len() {
            match attribute[at] {
                Token::Word(_) => at = self.path(module, attribute, at),
                Token::Text(text) => {
                    if is(attribute, 0, "serde") && text.contains("::") {
                        let inner = tokens(text);
                        let mut at = 0;
                        while at < inner.len() {
                            at = match inner[at] {
                                Token::Word(_) => self.path(module, &inner, at),
                                _ => at + 1,
                            };
                        }
                    }
                    at += 1;
                }
                Token::Mark(_) => at += 1,
            }
        }
    }

    /// Takes a path that begins with a word. Returns where the code goes on.
    fn path(&mut self, module: usize, code: &[Token<'_>], at: usize) -> usize {
        let mut path = vec![word(code, at).to_owned()];
        let mut end = at + 1;
        while is(code, end, "::")
            && let Some(Token::Word(next)) = code.get(end + 1)
        {
            path.push((*next).to_owned());
            end += 2;
        }
        // Fields and methods, what follows generic arguments, and paths of other crates.
        let continues = at > 0 && (is(code, at - 1, ".") || is(code, at - 1, "::"));
        if !continues {
            self.all[module].paths.push(path);
        }
        end
    }

    fn import(&mut self, module: usize, tree: &[Token<'_>], before: &[String], public: bool) {
        for branch in branches(tree) {
            let mut path = before.to_vec();
            let mut name = None;
            let mut at = 0;
            if is(branch, 0, "::") && before.is_empty() {
                continue;
            }
            while at < branch.len() {
                match branch[at] {
                    Token::Mark("{") => {
                        let end = closing(branch, at);
                        self.import(module, &branch[at + 1..end], &path, public);
                        path.clear();
                        break;
                    }
                    Token::Mark("*") => name = Some("*"),
                    Token::Word("as") => {
                        name = Some(word(branch, at + 1));
                        break;
                    }
                    Token::Word(word) => path.push(word.to_owned()),
                    _ => {}
                }
                at += 1;
            }
            if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let Some(last) = path.last() else { continue };
            let name = name.unwrap_or(last).to_owned();
            self.all[module].imports.push(Import { name, path, public });
        }
    }
}

/// The parts of a list of imports.
fn branches<'a, 'b>(tree: &'a [Token<'b>]) -> Vec<&'a [Token<'b>]> {
    let mut depth = 0_usize;
    let parts = tree.split(move |token| {
        match token {
            Token::Mark("{") => depth += 1,
            Token::Mark("}") => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && *token == Token::Mark(",")
    });
    parts.filter(|part| !part.is_empty()).collect()
}

/// Whether an attribute leaves what follows to tests: `cfg(test)` and `cfg(all(test, ...))`.
fn is_of_tests(attribute: &[Token<'_>]) -> bool {
    let starts_with = |words: &[&str]| {
        words
            .iter()
            .enumerate()
            .all(|(at, word)| is(attribute, at, word))
    };
    starts_with(&["cfg", "(", "test", ")"]) || starts_with(&["cfg", "(", "all", "(", "test"])
}

/// The file that an attribute names for a module.
fn path_attribute<'a>(attribute: &[Token<'a>]) -> Option<&'a str> {
    let at =
        (0..attribute.len()).find(|&at| is(attribute, at, "path") && is(attribute, at + 1, "="))?;
    match attribute.get(at + 2) {
        Some(Token::Text(path)) if is(attribute, 0, "path") || is(attribute, 0, "cfg_attr") => {
            Some(path)
        }
        _ => None,
    }
}

fn is(code: &[Token<'_>], at: usize, expected: &str) -> bool {
    matches!(code.get(at), Some(Token::Word(found) | Token::Mark(found)) if *found == expected)
}

fn word<'a>(code: &[Token<'a>], at: usize) -> &'a str {
    match code.get(at) {
        Some(Token::Word(word)) => word,
        _ => "",
    }
}

/// The position of the bracket that closes the one at `open`.
fn closing(code: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in code.iter().enumerate().skip(open) {
        match token {
            Token::Mark("(" | "[" | "{") => depth += 1,
            Token::Mark(")" | "]" | "}") => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    panic!("a bracket is not closed");
}
