//! What a peer says is data: never markup, never an instruction to a terminal.

/// For HTML text and quoted attributes.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// For running Markdown text and table cells: on one line, no emphasis, link, image, HTML or table bar of its own.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let visible = visible(text);
    // A leading number with a stop or a bracket begins a list.
    let number = visible.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = visible.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        let special = matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '~');
        // `://` and `www.` become links by themselves in GitHub's Markdown.
        let link = c == '/' && rest.peek().is_some_and(|(_, next)| *next == '/')
            || c == '.' && out.to_ascii_lowercase().ends_with("www");
        let block = at == 0 && matches!(c, '#' | '-' | '+' | '=')
            || at == number && number > 0 && matches!(c, '.' | ')') && !follows_digit(rest.peek());
        if special || link || block {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn follows_digit(next: Option<&(usize, char)>) -> bool {
    next.is_some_and(|(_, c)| c.is_ascii_digit())
}

/// For a Markdown code span, also within a table.
pub fn code(text: &str) -> String {
    let inner = visible(text).replace('`', "'").replace('|', "¦");
    format!("`{}`", if inner.is_empty() { " " } else { inner.trim() })
}

/// On one line, without control characters and without marks that turn the direction of writing.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() || is_deceptive(c) => {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// Bidirectional controls, zero-width characters and the like: they make text read as something else.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_cannot_be_broken_out_of() {
        assert_eq!(
            html("<script>alert('x')</script>\" onload=\"&"),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot; onload=&quot;&amp;"
        );
    }

    #[test]
    fn markdown_stays_text() {
        assert_eq!(markdown("![a](https://evil.test) | b"), "!\\[a\\](https:\\//evil.test) \\| b");
        assert_eq!(markdown("# head\n- item"), "\\# head - item");
        assert_eq!(markdown("see www.evil.test"), "see www\\.evil.test");
        assert_eq!(markdown("1. first"), "1\\. first");
        assert_eq!(markdown("10.0.0.1 timed out"), "10.0.0.1 timed out");
        assert_eq!(markdown("<b>`x`</b>"), "\\<b\\>\\`x\\`\\</b\\>");
    }

    #[test]
    fn a_code_span_cannot_be_closed_from_within() {
        assert_eq!(code("a`b|c"), "`a'b¦c`");
        assert_eq!(code(""), "` `");
    }

    #[test]
    fn terminals_and_eyes_are_not_deceived() {
        assert_eq!(visible("\u{1b}[31mred\u{202e}txt"), "\\u{1b}[31mred\\u{202e}txt");
        assert_eq!(visible("two\r\nlines"), "two  lines");
        assert_eq!(visible("C1 \u{9b}31m"), "C1 \\u{9b}31m");
    }
}
