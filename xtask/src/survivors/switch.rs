//! All changes in one text, each behind a switch: what is compiled once, and not once for each of them.
//!
//! ```text
//! a + b                    ──►  (if crate::switched(7) { a - b } else { a + b })
//! fn f() -> u32 { ... }    ──►  fn f() -> u32 { if crate::switched(8) { return 0; } ... }
//! Some(n) => ...           ──►  Some(n) if !crate::switched(9) => ...
//! ```
//!
//! The idea is that of mutant schemata (Untch, Offutt and Harrold, "Mutation Analysis Using Mutant Schemata", 1993).

use core::{cmp::Reverse, iter::Peekable, ops::Range, slice::Iter};
use std::collections::BTreeMap;

use proc_macro2::LineColumn;
use syn::{
    Block, Expr, ExprBinary, ExprMatch, ExprRepeat, ExprUnary, ImplItemConst, ImplItemFn, ItemConst, ItemFn,
    ItemStatic, Pat, Signature, TraitItemConst, Type,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::Change;

/// What the copy of the core has besides: whether a change is the one that is asked for.
pub(super) const SWITCH: &str = r#"
extern crate std as std_of_the_switch;
/// The change that is made.
static SWITCHED: std_of_the_switch::sync::LazyLock<usize> = std_of_the_switch::sync::LazyLock::new(|| {
    std_of_the_switch::env::var("DURALOG_SWITCHED").map_or(0, |number| number.parse().expect("a number"))
});
/// Whether a change is made.
pub(crate) fn switched(number: usize) -> bool {
    *SWITCHED == number
}
"#;

/// A text with changes in it.
#[derive(Default)]
pub(super) struct Switched {
    pub(super) text: String,
    /// Where the text of each change stands, and around it the part that it changes.
    pub(super) places: Vec<(usize, Range<usize>)>,
    /// What cannot stand behind a switch.
    pub(super) left_out: Vec<usize>,
}

/// A part of the text, and what becomes of it.
struct Edit {
    range: Range<usize>,
    how: How,
}

enum How {
    /// One of these instead, or the part itself.
    Instead(Vec<(usize, String)>),
    /// This in front of it.
    Before(usize, String),
}

impl Switched {
    /// Puts changes to a text behind a switch, each under its number.
    pub(super) fn new(text: &str, changes: &[(usize, &Change)]) -> Result<Self, String> {
        let file = syn::parse_file(text).map_err(|why| why.to_string())?;
        let mut sites = Sites { text, lines: Lines::of(text), sites: BTreeMap::new(), constants: Vec::new() };
        sites.visit_file(&file);
        let mut edits: Vec<Edit> = Vec::new();
        let mut switched = Self::default();
        for &(number, change) in changes {
            match sites.edit(number, change) {
                None => switched.left_out.push(number),
                Some(Edit { range, how: How::Instead(others) }) => {
                    let there = edits.iter_mut().find_map(|edit| match &mut edit.how {
                        How::Instead(all) if edit.range == range => Some(all),
                        _ => None,
                    });
                    match there {
                        Some(all) => all.extend(others),
                        None => edits.push(Edit { range, how: How::Instead(others) }),
                    }
                }
                Some(edit) => edits.push(edit),
            }
        }
        // What stands in front first, then the outer ones.
        edits.sort_by_key(|edit| (edit.range.start, !edit.range.is_empty(), Reverse(edit.range.end)));
        switched.write(text, 0..text.len(), &mut edits.iter().peekable());
        Ok(switched)
    }

    fn write(&mut self, text: &str, range: Range<usize>, edits: &mut Peekable<Iter<'_, Edit>>) {
        let mut at = range.start;
        while let Some(edit) = edits.next_if(|edit| edit.range.end <= range.end) {
            self.text += &text[at..edit.range.start];
            at = edit.range.end;
            let whole = self.text.len();
            match &edit.how {
                How::Before(number, what) => {
                    self.text += what;
                    self.places.push((*number, whole..self.text.len()));
                }
                How::Instead(others) => {
                    self.text += "(";
                    for (number, other) in others {
                        let start = self.text.len();
                        self.text += &format!("if crate::switched({number}) {{ {other} }} else ");
                        self.places.push((*number, start..self.text.len()));
                    }
                    self.text += "{ ";
                    self.write(text, edit.range.clone(), edits);
                    self.text += " })";
                    let whole = whole..self.text.len();
                    self.places.extend(others.iter().map(|(number, _)| (*number, whole.clone())));
                }
            }
        }
        self.text += &text[at..range.end];
    }
}

/// What a change may be about.
enum Site {
    /// An operation; its operator.
    Operation { whole: Range<usize>, operator: Range<usize> },
    /// A pattern without a guard, and where it ends.
    Arm { end: usize },
    /// A guard.
    Guard(Range<usize>),
}

/// Where changes can be made, by the byte where what is replaced begins.
struct Sites<'a> {
    text: &'a str,
    lines: Lines<'a>,
    sites: BTreeMap<usize, Site>,
    /// What is computed while it is compiled: no switch can stand there.
    constants: Vec<Range<usize>>,
}

impl Sites<'_> {
    fn range(&self, spanned: &impl Spanned) -> Range<usize> {
        let span = spanned.span();
        self.lines.offset(span.start())..self.lines.offset(span.end())
    }

    fn constant(&mut self, spanned: &impl Spanned) {
        let range = self.range(spanned);
        self.constants.push(range);
    }

    fn function(&mut self, signature: &Signature, block: &Block) {
        if signature.constness.is_some() {
            self.constant(block);
        }
    }

    /// How to make a change, if it can stand behind a switch.
    fn edit(&self, number: usize, change: &Change) -> Option<Edit> {
        let at = self.lines.offset(change.start);
        if self.constants.iter().any(|range| range.contains(&at)) {
            return None;
        }
        let instead =
            |range: &Range<usize>, what: String| Edit { range: range.clone(), how: How::Instead(vec![(number, what)]) };
        let before = |at: usize, what: String| Edit { range: at..at, how: How::Before(number, what) };
        let what = &change.replacement;
        match (&change.genre[..], self.sites.get(&at)) {
            ("FnValue", _) => Some(before(at, format!("if crate::switched({number}) {{ return {what}; }} "))),
            ("BinaryOperator" | "UnaryOperator", Some(Site::Operation { whole, operator })) => {
                let (left, right) = (&self.text[whole.start..operator.start], &self.text[operator.end..whole.end]);
                Some(instead(whole, format!("{left}{what}{right}")))
            }
            ("MatchArm", Some(Site::Arm { end })) => Some(before(*end, format!(" if !crate::switched({number})"))),
            ("MatchArmGuard", Some(Site::Guard(range))) => Some(instead(range, what.clone())),
            _ => None,
        }
    }
}

/// Whether a name is given within: `if let ... && ...` is no value.
fn gives_names(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(both) => gives_names(&both.left) || gives_names(&both.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Sites<'_> {
    fn visit_expr_binary(&mut self, expr: &'ast ExprBinary) {
        if !gives_names(&expr.left) && !gives_names(&expr.right) {
            let (whole, operator) = (self.range(expr), self.range(&expr.op));
            self.sites.insert(operator.start, Site::Operation { whole, operator });
        }
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_unary(&mut self, expr: &'ast ExprUnary) {
        let (whole, operator) = (self.range(expr), self.range(&expr.op));
        self.sites.insert(operator.start, Site::Operation { whole, operator });
        visit::visit_expr_unary(self, expr);
    }

    fn visit_expr_match(&mut self, expr: &'ast ExprMatch) {
        // Without an arm for all else, a match that may pass over another is not compiled.
        let has_rest = expr.arms.iter().any(|arm| matches!(arm.pat, Pat::Wild(_)));
        for arm in &expr.arms {
            if let Pat::Guard(guarded) = &arm.pat {
                let guard = self.range(&guarded.guard);
                self.sites.insert(guard.start, Site::Guard(guard));
            } else if has_rest {
                let (start, end) = (self.range(arm).start, self.range(&arm.pat).end);
                self.sites.insert(start, Site::Arm { end });
            }
        }
        visit::visit_expr_match(self, expr);
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        self.constant(item);
    }

    fn visit_impl_item_const(&mut self, item: &'ast ImplItemConst) {
        self.constant(item);
    }

    fn visit_trait_item_const(&mut self, item: &'ast TraitItemConst) {
        self.constant(item);
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        self.constant(item);
    }

    fn visit_expr_repeat(&mut self, expr: &'ast ExprRepeat) {
        self.constant(&expr.len);
        visit::visit_expr_repeat(self, expr);
    }

    fn visit_type(&mut self, of: &'ast Type) {
        self.constant(of);
    }
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, starts: core::iter::once(0).chain(ends).collect() }
    }

    /// The byte at a place: lines count from 1, columns are characters and count from 0.
    fn offset(&self, place: LineColumn) -> usize {
        let start = self.starts[place.line - 1];
        start + self.text[start..].chars().take(place.column).map(char::len_utf8).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn change(text: &str, genre: &str, replaced: &str, replacement: &str) -> Change {
        let at = text.find(replaced).unwrap();
        let line = text[..at].matches('\n').count() + 1;
        let column = text[..at].rsplit('\n').next().unwrap().chars().count();
        let (genre, replacement) = (genre.to_owned(), replacement.to_owned());
        Change { name: String::new(), file: String::new(), start: LineColumn { line, column }, genre, replacement }
    }

    #[test]
    fn each_change_stands_behind_its_switch_and_the_text_itself_behind_all() {
        let text = "fn f(a: u32) -> u32 {\n    match a { 1 => 2, n if n > 3 => !n + 4 * n, _ => 5 }\n}\n";
        let changes = [
            change(text, "FnValue", "match", "0"),
            change(text, "MatchArm", "1 =>", ""),
            change(text, "MatchArmGuard", "n > 3", "true"),
            change(text, "BinaryOperator", "> 3", "<"),
            change(text, "UnaryOperator", "!n", ""),
            change(text, "BinaryOperator", "+ 4", "-"),
            change(text, "BinaryOperator", "+ 4", "*"),
        ];
        // What is replaced is the operator, and not what stands behind it.
        let numbered: Vec<_> = (1..).zip(&changes).collect();
        let switched = Switched::new(text, &numbered).unwrap();
        assert_eq!(
            switched.text,
            "fn f(a: u32) -> u32 {\n    if crate::switched(1) { return 0; } match a { 1 if !crate::switched(2) => 2, \
             n if (if crate::switched(3) { true } else if crate::switched(4) { n < 3 } else { n > 3 }) => \
             (if crate::switched(6) { !n - 4 * n } else if crate::switched(7) { !n * 4 * n } else \
             { (if crate::switched(5) { n } else { !n }) + 4 * n }), _ => 5 }\n}\n"
        );
        assert!(switched.left_out.is_empty());
        assert_eq!(switched.places.iter().map(|(number, _)| *number).collect::<BTreeSet<_>>(), (1..=7).collect());
        syn::parse_file(&switched.text).unwrap();
    }

    #[test]
    fn what_is_computed_while_it_is_compiled_has_no_switch() {
        let text = "const A: u32 = 1 + 2;\nconst fn f() -> u32 { 3 - 4 }\nfn g(b: [u8; 5 * 6]) -> bool {\n    \
                    if let [c, ..] = b && true { c > [0; 7 / 8].len() } else { b == b }\n}\n";
        for (replaced, left_out) in [("+", true), ("- 4", true), ("*", true), ("&&", true), ("/", true), ("==", false)]
        {
            let changes = [change(text, "BinaryOperator", replaced, "%")];
            let switched = Switched::new(text, &[(1, &changes[0])]).unwrap();
            assert_eq!((switched.left_out.len() == 1, switched.text == text), (left_out, left_out), "{replaced}");
        }
    }
}
