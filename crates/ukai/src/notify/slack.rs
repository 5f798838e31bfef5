//! A Slack incoming webhook: `text` for the notification on a phone, blocks for the channel.
//!
//! Slack knows no idempotency key, so a message that may have arrived before says that it is repeated.

use hyper::body::Bytes;
use serde_json::json;
use ukai_core::event::Notification;

/// Slack refuses a section with a longer text.
const SECTION_CHARACTERS: usize = 3000;
/// Slack cuts `text` far later; a phone shows a line or two.
const FALLBACK_CHARACTERS: usize = 300;

pub fn compose(notification: &Notification, repeated: bool) -> Bytes {
    let Notification { subject, text, peer, incident, page, .. } = notification;
    let mark = if repeated { " (repeated)" } else { "" };
    let sign = if *page { ":rotating_light: " } else { "" };
    // The text comes to at most its bound less what stands around it.
    let head = format!("{sign}*{}*{mark}\n", cut(&escaped(subject), FALLBACK_CHARACTERS));
    let body = cut(&escaped(text), SECTION_CHARACTERS - head.chars().count());
    let about = match incident {
        Some(incident) => format!("{} · {}", escaped(peer), escaped(incident)),
        None => escaped(peer),
    };
    let message = json!({
        "text": cut(&format!("{sign}{}{mark}", escaped(subject)), FALLBACK_CHARACTERS),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": format!("{head}{body}")}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": cut(&about, FALLBACK_CHARACTERS)}]},
        ],
    });
    Bytes::from(message.to_string())
}

/// The three characters that Slack asks to escape; the rest of a peer's text cannot start a link or a mention then.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// At most this many characters, never half an escape.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(most.saturating_sub(1)).collect();
    if let Some(start) = kept.rfind('&').filter(|start| !kept[*start..].contains(';')) {
        kept.truncate(start);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use ukai_core::event::NotificationKind;

    use super::*;

    #[test]
    fn a_message_has_a_fallback_and_a_section() {
        let message = composed("api: resolver stale", "192.0.2.1 → 192.0.2.2", false);
        assert_eq!(message["text"], ":rotating_light: api: resolver stale");
        let section = message["blocks"][0]["text"]["text"].as_str().unwrap();
        assert_eq!(section, ":rotating_light: *api: resolver stale*\n192.0.2.1 → 192.0.2.2");
        assert_eq!(message["blocks"][1]["elements"][0]["text"], "api · i-1");
        assert!(composed("s", "t", true)["text"].as_str().unwrap().ends_with("(repeated)"));
    }

    #[test]
    fn a_peers_text_cannot_mention_or_link() {
        let message = composed("<!channel>", "<https://evil.test|click> & more", false).to_string();
        assert!(!message.contains("<!channel>") && !message.contains("<https"), "{message}");
        assert!(message.contains("&lt;https://evil.test|click&gt; &amp; more"), "{message}");
    }

    #[test]
    fn a_section_is_bounded_and_no_escape_is_cut() {
        for length in 2900..3100 {
            let message = composed("subject", &format!("{}{}", "x".repeat(length - 2800), "&".repeat(2800)), false);
            let section = message["blocks"][0]["text"]["text"].as_str().unwrap().to_owned();
            assert!(section.chars().count() <= SECTION_CHARACTERS, "{length}");
            assert!(section.ends_with("&amp;…"), "{length}: {}", &section[section.len() - 20..]);
        }
        let long = composed(&"s".repeat(5000), "text", true);
        assert!(long["blocks"][0]["text"]["text"].as_str().unwrap().ends_with("text"));
    }

    fn composed(subject: &str, text: &str, repeated: bool) -> Value {
        let notification = Notification {
            key: "k-1".to_owned(),
            incident: Some("i-1".to_owned()),
            peer: "api".to_owned(),
            kind: NotificationKind::Opened,
            page: true,
            subject: subject.to_owned(),
            text: text.to_owned(),
            alarm: None,
        };
        serde_json::from_slice(&compose(&notification, repeated)).unwrap()
    }
}
