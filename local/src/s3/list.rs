//! Pages of a bucket's listing: prefix, delimiter, limit and where to go on.
//! Works on keys in S3's order; not for how they are found.

use std::collections::BTreeSet;

/// What a client wants listed.
#[derive(Debug, Clone, Default)]
pub struct Query<'a> {
    pub prefix: &'a str,
    pub delimiter: Option<&'a str>,
    /// Only what comes after it; may be a common prefix.
    pub after: Option<&'a str>,
    pub limit: usize,
}

/// One page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page<'a> {
    pub keys: Vec<&'a str>,
    pub common_prefixes: BTreeSet<&'a str>,
    /// The last entry, if more follow.
    pub next: Option<&'a str>,
}

impl Page<'_> {
    pub fn entries(&self) -> usize {
        self.keys.len() + self.common_prefixes.len()
    }
}

/// Cuts a page from `keys`, which are sorted.
pub fn page<'a>(keys: impl Iterator<Item = &'a str>, query: &Query<'_>) -> Page<'a> {
    let mut page = Page::default();
    let mut last = None;
    for key in keys {
        let Some(rest) = key.strip_prefix(query.prefix) else {
            continue;
        };
        let delimiter = query.delimiter.filter(|delimiter| !delimiter.is_empty());
        let common = delimiter.and_then(|delimiter| {
            let end = rest.find(delimiter)? + delimiter.len();
            Some(&key[..query.prefix.len() + end])
        });
        let entry = common.unwrap_or(key);
        // A common prefix on which the last page ended swallows all its keys.
        let is_past = query.after.is_none_or(|after| key > after && common != Some(after));
        if !is_past || common.is_some_and(|common| page.common_prefixes.contains(common)) {
            continue;
        }
        if page.entries() == query.limit {
            page.next = last;
            return page;
        }
        match common {
            Some(common) => {
                page.common_prefixes.insert(common);
            }
            None => page.keys.push(key),
        }
        last = Some(entry);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = ["a", "d/1", "d/2", "d/e/3", "d0", "z"];

    /// All pages of a listing, a line each; common prefixes last.
    fn pages(prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<String> {
        let mut pages = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let query = Query { prefix, delimiter, after: after.as_deref(), limit };
            let page = page(KEYS.into_iter(), &query);
            let all: Vec<&str> = page.keys.iter().chain(&page.common_prefixes).copied().collect();
            pages.push(all.join(" "));
            match page.next {
                Some(next) => after = Some(next.to_owned()),
                None => return pages,
            }
        }
    }

    #[test]
    fn every_entry_is_on_exactly_one_page() {
        for (prefix, delimiter, limit, expected) in [
            ("", None, 10, vec!["a d/1 d/2 d/e/3 d0 z"]),
            ("", None, 2, vec!["a d/1", "d/2 d/e/3", "d0 z"]),
            ("", Some("/"), 10, vec!["a d0 z d/"]),
            ("", Some("/"), 1, vec!["a", "d/", "d0", "z"]),
            ("d/", Some("/"), 2, vec!["d/1 d/2", "d/e/"]),
            ("d", None, 10, vec!["d/1 d/2 d/e/3 d0"]),
            ("x", None, 10, vec![""]),
        ] {
            assert_eq!(pages(prefix, delimiter, limit), expected, "{prefix} {delimiter:?} {limit}");
        }
    }

    #[test]
    fn goes_on_after_any_key() {
        let query = Query { prefix: "", delimiter: None, after: Some("d/15"), limit: 1 };
        let page = page(KEYS.into_iter(), &query);
        assert_eq!((page.keys, page.next), (vec!["d/2"], Some("d/2")));
    }
}
