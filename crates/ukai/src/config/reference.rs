//! The reference page of the configuration, written from the same schema that editors use.

use serde_json::{Map, Value};

/// Tables in the order in which a reader meets them: where each stands in the file, and its definition's name.
const TABLES: [(&str, &str); 25] = [
    ("[dns]", "Dns"),
    ("[dns.policy_zone]", "ServedZone"),
    ("[rfc2136]", "Rfc2136"),
    ("tsig = { … }", "Tsig"),
    ("[unbound]", "Unbound"),
    ("[socket]", "Socket"),
    ("[application]", "Application"),
    ("[metrics]", "Metrics"),
    ("[[metrics.emf]]", "EmfFile"),
    ("[[metrics.scrape]]", "Scrape"),
    ("[metrics.otlp]", "Otlp"),
    ("[report]", "Report"),
    ("[[control]]", "Control"),
    ("[[other_vantage]]", "OtherVantage"),
    ("[vantage_service]", "VantageService"),
    ("[[peer]]", "Peer"),
    ("expect = { … } and unauthenticated = { … }", "Expect"),
    ("body_json = { … }", "BodyJson"),
    ("headers = { NAME = { … } } in expect", "HeaderRegex"),
    ("timeouts = { … }", "Timeouts"),
    ("client_certificate = { … }", "ClientCertificate"),
    ("[[notify]]", "Notify"),
    ("secrets: { … }", "SecretPlace"),
    ("a text, or { … }", "SecretSource"),
    ("status", "Status"),
];

/// Markdown: every key with its meaning, unit and default.
pub fn reference() -> String {
    let schema = super::json_schema();
    let mut page = String::from(
        "# Configuration\n\n`ukai.toml`, TOML. `ukai init URL` writes a commented one, `ukai config check FILE` says \
         everything that is wrong with one, and `ukai config schema` prints this as a JSON Schema. An unknown key is an \
         error with file, line, column and the nearest known key. `kill -HUP` or `ukai reload` reads the file again; a \
         bad one leaves the running configuration in force. This page is `ukai config reference`.\n",
    );
    table(&mut page, "At the top", schema.get("properties"));
    for (place, name) in TABLES {
        let properties = schema.pointer(&format!("/$defs/{name}/properties"));
        table(&mut page, &format!("`{place}`"), properties);
    }
    page
}

fn table(page: &mut String, title: &str, properties: Option<&Value>) {
    let Some(properties) = properties.and_then(Value::as_object).filter(|properties| !properties.is_empty()) else {
        return;
    };
    page.push_str(&format!("\n## {title}\n| key | meaning |\n| --- | --- |\n"));
    for (key, property) in properties {
        page.push_str(&format!("| `{key}` | {} |\n", meaning(property)));
    }
}

fn meaning(property: &Value) -> String {
    let described = property.as_object().and_then(|property: &Map<String, Value>| property.get("description"));
    let text = described.and_then(Value::as_str).unwrap_or("see below");
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_code_says() {
        let page = include_str!("../../../../docs/reference/configuration.md");
        assert!(page == reference(), "write it again: ukai config reference > docs/reference/configuration.md");
    }
}
