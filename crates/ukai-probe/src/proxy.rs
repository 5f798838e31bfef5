//! The proxy variables of the environment: never used, but told, because other programs on this machine may use them.

use url::Url;

use crate::escape::escape;

/// As curl, Go and Python read them.
const VARIABLES: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// The proxy variables that are set, as `NAME=host:port`, without credentials.
pub fn proxy_environment() -> Vec<String> {
    describe(|name| std::env::var(name).ok())
}

fn describe(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    VARIABLES
        .iter()
        .filter_map(|name| {
            let value = variable(name).filter(|value| !value.trim().is_empty())?;
            Some(format!("{name}={}", proxy_host(value.trim())))
        })
        .collect()
}

fn proxy_host(value: &str) -> String {
    let with_scheme = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let Ok(url) = Url::parse(&with_scheme) else {
        return "(unreadable)".to_owned();
    };
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) => escape(&format!("{host}:{port}")),
        (Some(host), None) => escape(host),
        (None, _) => "(unreadable)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_told() {
        let told = describe(|name| match name {
            "https_proxy" => Some("http://user:hunter2@proxy.test:3128/".to_owned()),
            "HTTP_PROXY" => Some("user:hunter2@other.test".to_owned()),
            "ALL_PROXY" => Some("socks5://[::1]:1080".to_owned()),
            "all_proxy" => Some(String::new()),
            _ => None,
        });
        assert_eq!(told, ["HTTP_PROXY=other.test:80", "https_proxy=proxy.test:3128", "ALL_PROXY=[::1]:1080"]);
    }

    #[test]
    fn nothing_set_is_nothing_told() {
        assert!(describe(|_| None).is_empty());
    }
}
