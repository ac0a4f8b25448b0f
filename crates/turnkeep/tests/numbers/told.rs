//! What a server tells on `/metrics`, read as Prometheus would read it.

use std::collections::{BTreeMap, BTreeSet};

/// One line: a name, its labels, a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Everything that one answer told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) samples: Vec<Sample>,
    /// The types of families, by their names.
    pub(crate) kinds: BTreeMap<String, String>,
    /// Families that say what they are about.
    pub(crate) described: BTreeSet<String>,
}

impl Told {
    /// Reads the text format; fails on whatever is none.
    pub(crate) fn read(text: &str) -> Self {
        let mut told = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                let known = told.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(known, None, "{name} is told twice");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                told.described.insert(rest.split(' ').next().unwrap().to_owned());
            } else {
                told.samples.push(sample(line));
            }
        }
        told
    }

    /// The family of a sample: that of a histogram has no `_bucket`.
    pub(crate) fn family<'a>(&self, name: &'a str) -> &'a str {
        let parts = ["_bucket", "_sum", "_count"].into_iter();
        let stems = parts.filter_map(|part| name.strip_suffix(part));
        let histogram = |stem: &&str| self.kinds.get(*stem).is_some_and(|kind| kind == "histogram");
        stems.into_iter().find(histogram).unwrap_or(name)
    }

    pub(crate) fn families(&self) -> BTreeSet<&str> {
        self.samples.iter().map(|sample| self.family(&sample.name)).collect()
    }

    /// The samples of this name.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The value of a sample with these labels; 0 if there is none.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            labels
                .iter()
                .all(|(label, value)| sample.labels.get(*label).is_some_and(|given| given == value))
        };
        self.of(name).filter(fits).map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(within) = rest.strip_prefix('{') {
        rest = within;
        while !rest.starts_with('}') {
            let (label, behind) = rest.split_once("=\"").unwrap();
            let (value, behind) = quoted(behind);
            labels.insert(label.to_owned(), value);
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = &rest[1..];
    }
    let value = rest.trim().parse().unwrap_or_else(|_| panic!("no number: {line}"));
    Sample { name: name.to_owned(), labels, value }
}

/// A label's value up to its closing quotation mark, and what stands behind that.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, one)) = characters.next() {
        match one {
            '"' => return (value, &text[at + 1..]),
            '\\' => match characters.next().unwrap().1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    panic!("a label without an end: {text}");
}

#[test]
fn the_text_format_is_read() {
    let text = "# HELP a_total What\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"}\\n\"} 3\n\
                \n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 0.5\nh_count 2\nb +Inf\n";
    let told = Told::read(text);
    assert_eq!(told.families(), BTreeSet::from(["a_total", "b", "h"]));
    assert_eq!(told.value("a_total", &[("y", "q\"}\n")]), 3.0);
    assert_eq!((told.value("b", &[]), told.value("a_total", &[("x", "2")])), (f64::INFINITY, 0.0));
}
