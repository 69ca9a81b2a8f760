//! Paginated lists.

use serde_json::{Value, json};

use super::fault::Fault;

/// The list parameters of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PageQuery {
    limit: usize,
    ascending: bool,
    after: Option<String>,
    before: Option<String>,
    /// Include only messages of this run.
    pub(super) run: Option<String>,
}

impl PageQuery {
    /// Parses a query string. Unknown parameters are ignored.
    pub(super) fn parse(query: &str) -> Result<Self, Fault> {
        let mut page = Self { limit: 20, ascending: false, after: None, before: None, run: None };
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "after" => page.after = Some(value.to_owned()),
                "before" => page.before = Some(value.to_owned()),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=100).contains(limit));
                    page.limit = limit.ok_or_else(|| {
                        Fault::invalid("limit", format!("Invalid 'limit': '{value}'. Expected 1 to 100."))
                    })?;
                }
                "order" => {
                    page.ascending = match value {
                        "asc" => true,
                        "desc" => false,
                        _ => {
                            return Err(Fault::invalid(
                                "order",
                                format!("Invalid value: '{value}'. Supported values are: 'asc' and 'desc'."),
                            ));
                        }
                    }
                }
                "run_id" => page.run = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(page)
    }

    /// Selects the page from `items`, which are objects with ids, oldest first. An unknown cursor
    /// is refused, as OpenAI does.
    pub(super) fn cut(&self, items: Vec<Value>) -> Result<Value, Fault> {
        let mut items = items;
        if !self.ascending {
            items.reverse();
        }
        let place = |name: &'static str, cursor: &str| {
            let found = items.iter().position(|item| item["id"] == cursor);
            found.ok_or_else(|| Fault::invalid(name, format!("No item found with id '{cursor}'.")))
        };
        let from = match &self.after {
            Some(cursor) => place("after", cursor)? + 1,
            None => 0,
        };
        let to = match &self.before {
            Some(cursor) => place("before", cursor)?.max(from),
            None => items.len(),
        };
        let window = &items[from..to];
        // With `before` alone, the page is the one that ends at the cursor.
        let backwards = self.before.is_some() && self.after.is_none();
        let data = match (backwards, window.len() > self.limit) {
            (true, true) => &window[window.len() - self.limit..],
            (_, false) => window,
            (false, true) => &window[..self.limit],
        };
        let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
        Ok(json!({
            "object": "list", "data": data, "first_id": id(data.first()), "last_id": id(data.last()),
            "has_more": window.len() > data.len(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, ids: &[&str], has_more: bool) {
        let items = ["a", "b", "c", "d", "e"].map(|id| json!({"id": id})).to_vec();
        let page = PageQuery::parse(query).unwrap().cut(items).unwrap();
        let got: Vec<&str> =
            page["data"].as_array().unwrap().iter().filter_map(|x| x["id"].as_str()).collect();
        assert_eq!((got.as_slice(), &page["has_more"]), (ids, &json!(has_more)), "{query}");
        assert_eq!(page["first_id"], ids.first().map_or(Value::Null, |id| json!(id)), "{query}");
    }

    #[test]
    fn pages_go_both_ways_in_both_orders() {
        check("", &["e", "d", "c", "b", "a"], false);
        check("limit=2", &["e", "d"], true);
        check("limit=2&after=d", &["c", "b"], true);
        check("limit=2&after=b", &["a"], false);
        check("limit=2&after=a", &[], false);
        check("order=asc&limit=2", &["a", "b"], true);
        check("order=asc&limit=2&before=d", &["b", "c"], true);
        check("order=asc&limit=9&before=d", &["a", "b", "c"], false);
        check("order=asc&after=a&before=d&limit=1", &["b"], true);
    }

    #[test]
    fn nonsense_is_refused() {
        for query in ["limit=0", "limit=101", "limit=x", "order=up"] {
            assert_eq!(PageQuery::parse(query).unwrap_err().status, 400, "{query}");
        }
        assert_eq!(PageQuery::parse("after=z").unwrap().cut(Vec::new()).unwrap_err().status, 400);
    }
}
