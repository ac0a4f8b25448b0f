//! What a request costs, by the model that answered it.

use std::collections::HashMap;
use std::sync::Arc;

use turnkeep_core::usage::{Price, Usage};

/// Prices as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// By the model's name, as its provider calls it.
    pub by_model: HashMap<Arc<str>, Price>,
    /// The name of the currency; it is shown, and nothing is done with it.
    pub currency: String,
    /// After so many days the sums of single days are put together; 0 is never.
    pub days_kept: u32,
}

impl Default for Prices {
    fn default() -> Self {
        Self { by_model: HashMap::new(), currency: "USD".to_owned(), days_kept: 400 }
    }
}

impl Prices {
    /// The same with its price, if that is known; whoever asked may know it better.
    #[must_use]
    pub fn priced(&self, usage: Usage) -> Usage {
        let known = || self.by_model.get(&usage.model).map(|price| price.of(&usage));
        let cost_micros = usage.cost_micros.or_else(known);
        Usage { cost_micros, ..usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_found_by_the_model() {
        let price = Price { output_micros: 2_000_000, ..Price::default() };
        let by_model = HashMap::from([(Arc::from("known"), price)]);
        let prices = Prices { by_model, ..Prices::default() };
        let check = |model: &str, said: Option<u64>, expect: Option<u64>| {
            let usage = Usage {
                model: model.into(),
                output_tokens: 10,
                cost_micros: said,
                ..Usage::default()
            };
            assert_eq!(prices.priced(usage).cost_micros, expect, "{model} {said:?}");
        };
        check("known", None, Some(20));
        check("known", Some(7), Some(7));
        check("unknown", None, None);
        check("unknown", Some(0), Some(0));
    }
}
