//! One page for the peer's support or the cloud's, in English and in Japanese: what was asked, what came, whose fault we think
//! it is, and what is expected.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use jiff::Timestamp;
use ukai_core::diagnose::evidence::{Asked, Evidence, Outcome, Source};
use ukai_core::diagnose::rules::RULES;
use ukai_core::diagnose::verdict::Verdict;
use ukai_core::observe::AddressResult;

use super::Saved;
use super::contents::Sender;
use crate::report::Report;
use words::{Both, Words, words};

/// Lines of each list on the page.
const SHOWN: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Japanese,
}

use Language::{English, Japanese};

impl Language {
    fn of(self, (en, ja): Both) -> &'static str {
        match self {
            English => en,
            Japanese => ja,
        }
    }
}

pub struct Page<'a> {
    pub saved: &'a Saved,
    pub verdict: &'a Verdict,
    /// The incident, without persons.
    pub report: &'a Report,
    pub sender: &'a Sender,
}

impl Page<'_> {
    pub fn in_language(&self, language: Language) -> String {
        let words = words(self.verdict.code);
        let mut page = String::new();
        self.head(&mut page, language);
        self.cause(&mut page, &words, language);
        page.push_str(language.of(("\n## What we asked, and what came\n", "\n## 問い合わせの内容と応答\n")));
        answers(&mut page, &self.saved.evidence, language);
        addresses(&mut page, &self.saved.evidence, language);
        self.around(&mut page, language);
        self.reasons(&mut page, language);
        self.asks(&mut page, &words, language);
        page.push_str(language.of((
            "\nBeside this page: dns/ (every DNS message, raw and readable), probes/, certificates/, timeline.txt (UTC), \
             network.json (our side), redacted.txt (what was taken out). `ukai explain --from evidence.json` derives the \
             verdict again.\n",
            "\n同梱物: dns/（すべての DNS メッセージの生データと読み下し）、probes/、certificates/、timeline.txt（時系列、UTC）、\
             network.json（弊社側の状況）、redacted.txt（伏せた情報の一覧）。`ukai explain --from evidence.json` で同じ判定を再現できます。\n",
        )));
        page
    }

    fn head(&self, page: &mut String, language: Language) {
        let evidence = &self.saved.evidence;
        let host = &evidence.host;
        let (since, incident) = (second(self.report.opened.failing_since), &self.report.incident);
        let closed = self.report.closed.as_ref().map(|closed| second(closed.at));
        let (started, finished) = (second(evidence.started_at), second(evidence.finished_at));
        let vantage = self.sender.vantage.as_deref();
        let contact = self.sender.contact.as_deref();
        let _ = match language {
            English => writeln!(
                page,
                "# {host} fails as seen from our network\n\n\
                 - When: from {since} UTC, {}\n\
                 - Evidence: gathered from {started} to {finished} UTC{}, by ukai, an automatic tool\n\
                 - Our number: {incident}\n\
                 - Contact: {}",
                closed.map_or("not over when this was written".to_owned(), |at| format!("over at {at} UTC")),
                vantage.map(|name| format!(", from our network \"{name}\"")).unwrap_or_default(),
                contact.unwrap_or("(please fill in)"),
            ),
            Japanese => writeln!(
                page,
                "# 弊社ネットワークから見た {host} の障害について\n\n\
                 - 発生時刻: {since} UTC ～ {}\n\
                 - 証拠の収集: {started} ～ {finished} UTC{}（自動診断ツール ukai による）\n\
                 - 弊社管理番号: {incident}\n\
                 - 連絡先: {}",
                closed.map_or("（本書作成時点で継続中）".to_owned(), |at| format!("{at} UTC")),
                vantage.map(|name| format!("、観測地点「{name}」")).unwrap_or_default(),
                contact.unwrap_or("（ご記入ください）"),
            ),
        };
    }

    fn cause(&self, page: &mut String, words: &Words, language: Language) {
        let Verdict { code, sure, party, summary, .. } = self.verdict;
        let (layer, party, sure) =
            (language.of(words.layer), language.of(words::party(*party)), language.of(words::sure(*sure)));
        let code = code.name();
        let _ = match language {
            English => writeln!(
                page,
                "\n## What we think it is\n{summary}\n\n- Verdict: {code}\n- Layer: {layer}\n- Whose fault: {party}\n- How sure: {sure}"
            ),
            Japanese => writeln!(
                page,
                "\n## 推定される原因\n{}\n\n- 判定: {code}（{}）\n- 障害の層: {layer}\n- 原因の所在: {party}\n- 確度: {sure}",
                words.cause_ja, words.label_ja
            ),
        };
    }

    /// What works and what fails besides.
    fn around(&self, page: &mut String, language: Language) {
        let evidence = &self.saved.evidence;
        let all = evidence.controls.len();
        let passed = evidence.controls.iter().filter(|control| control.passed()).count();
        let _ = match language {
            English => {
                writeln!(page, "- Unrelated sites, at the same time from the same place: {passed} of {all} work")
            }
            Japanese => writeln!(page, "- 同時刻に同じ場所から試した無関係のサイト: {all} 件中 {passed} 件が正常"),
        };
        for view in evidence.vantages.iter().take(SHOWN) {
            let (name, tried) = (&view.vantage, view.results.len());
            let whole = view.results.iter().filter(|proof| proof.result.is_success()).count();
            let _ = match (language, &view.silence) {
                (English, None) => {
                    writeln!(page, "- From another network of ours ({name}): {whole} of {tried} probes work")
                }
                (Japanese, None) => {
                    writeln!(page, "- 弊社の別ネットワーク（{name}）から: {tried} 件中 {whole} 件が正常")
                }
                (English, Some(_)) => writeln!(page, "- From another network of ours ({name}): could not be asked"),
                (Japanese, Some(_)) => writeln!(page, "- 弊社の別ネットワーク（{name}）から: 確認できず"),
            };
        }
    }

    fn reasons(&self, page: &mut String, language: Language) {
        let Verdict { evidence_for, evidence_against, eliminated, .. } = self.verdict;
        page.push_str(language.of(("\n## Why we think so\n", "\n## 判定の根拠（英文はツールの出力）\n")));
        let against = language.of(("against it, or not seen: ", "反証・未確認: "));
        evidence_for.iter().take(SHOWN).for_each(|reason| page.push_str(&format!("- {reason}\n")));
        evidence_against.iter().take(SHOWN).for_each(|reason| page.push_str(&format!("- {against}{reason}\n")));
        let excluded: Vec<&str> = RULES
            .iter()
            .filter(|rule| eliminated.iter().any(|told| told.split(':').next() == Some(rule.code.name())))
            .map(|rule| language.of((rule.code.name(), words(rule.code).label_ja)))
            .collect();
        let _ = match language {
            _ if excluded.is_empty() => Ok(()),
            English => writeln!(page, "- excluded: {}", excluded.join(", ")),
            Japanese => writeln!(page, "- 除外済みの原因: {}", excluded.join("、")),
        };
    }

    fn asks(&self, page: &mut String, words: &Words, language: Language) {
        page.push_str(language.of(("\n## What we ask of you\n", "\n## お願いしたいこと\n")));
        let host = &self.saved.evidence.host;
        match (words.peer, language) {
            (Some(ask), English) => page.push_str(&format!("- To the support of {host}: {}\n", language.of(ask))),
            (Some(ask), Japanese) => page.push_str(&format!("- {host} のサポートご担当者様へ: {}\n", language.of(ask))),
            (None, English) => {
                page.push_str(&format!("- To the support of {host}: nothing; this is for your information.\n"))
            }
            (None, Japanese) => page
                .push_str(&format!("- {host} のサポートご担当者様へ: お願いする事項はありません（情報共有のみ）。\n")),
        }
        if let Some(ask) = words.cloud {
            let whom = (
                "- To whoever runs our cloud, network or resolver: ",
                "- 弊社が利用するクラウド・ネットワーク・リゾルバーのサポートご担当者様へ: ",
            );
            page.push_str(&format!("{}{}\n", language.of(whom), language.of(ask)));
        }
    }
}

/// Who said what of the name: servers that say the same are one line.
fn answers(page: &mut String, evidence: &Evidence, language: Language) {
    for (source, name) in [
        (Source::OurResolver, ("our resolver", "弊社が利用するリゾルバー")),
        (Source::Authority, ("the service's authoritative servers", "サービスの権威サーバー")),
        (Source::Independent, ("independent public resolvers", "第三者の公開リゾルバー")),
    ] {
        let mut servers: BTreeMap<&str, Vec<&Asked>> = BTreeMap::new();
        let asked = evidence.asked.iter().filter(|asked| asked.source == source);
        for asked in asked.filter(|asked| asked.is_address_question() && !asked.checking_disabled) {
            servers.entry(&asked.identity).or_default().push(asked);
        }
        let mut saying: BTreeMap<String, usize> = BTreeMap::new();
        for asked in servers.values() {
            *saying.entry(said(asked, language)).or_default() += 1;
        }
        let mut lines: Vec<(String, usize)> = saying.into_iter().collect();
        lines.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (said, count) in lines.into_iter().take(SHOWN) {
            let _ = match language {
                English => writeln!(page, "- DNS, {} ({count} of {}): {said}", language.of(name), servers.len()),
                Japanese => writeln!(page, "- DNS・{}（{} 台中 {count} 台）: {said}", language.of(name), servers.len()),
            };
        }
    }
}

/// One server's answers to the questions for A and AAAA, over whatever transport.
fn said(asked: &[&Asked], language: Language) -> String {
    let answers = || asked.iter().filter_map(|asked| asked.answer());
    let addresses: BTreeSet<IpAddr> = answers().flat_map(|answer| answer.addresses.iter().copied()).collect();
    if !addresses.is_empty() {
        let ttl = answers().filter(|answer| !answer.addresses.is_empty()).filter_map(|answer| answer.ttl).max();
        return format!("{}{}", shown(&addresses), ttl.map(|ttl| format!(" (TTL {ttl})")).unwrap_or_default());
    }
    if answers().any(|answer| answer.truncated) {
        // What was cut off says nothing of what there is.
        return language.of(("truncated, and no whole answer", "切り詰められ、完全な応答なし")).to_owned();
    }
    let codes: BTreeSet<String> = answers().map(|answer| format!("{:?}", answer.rcode).to_uppercase()).collect();
    if !codes.is_empty() {
        let none = language.of(("no address", "アドレスなし"));
        return format!("{none} ({})", codes.into_iter().collect::<Vec<_>>().join(", "));
    }
    let silent: BTreeSet<String> = asked.iter().filter_map(|asked| silence(asked)).collect();
    format!("{} ({})", language.of(("no answer", "応答なし")), silent.into_iter().collect::<Vec<_>>().join(", "))
}

fn silence(asked: &Asked) -> Option<String> {
    match &asked.outcome {
        Outcome::Silent { why, .. } => Some(format!("{why:?}").to_lowercase()),
        Outcome::Answered(_) => None,
    }
}

fn shown(addresses: &BTreeSet<IpAddr>) -> String {
    let first: Vec<String> = addresses.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = addresses.len() - first.len();
    format!("{}{}", first.join(", "), if more > 0 { format!(", +{more}") } else { String::new() })
}

/// Each address with what became of the probes of it: those that fail first.
fn addresses(page: &mut String, evidence: &Evidence, language: Language) {
    let mut tried: BTreeMap<IpAddr, Vec<&AddressResult>> = BTreeMap::new();
    let observed = evidence.observations.iter().flat_map(|observation| &observation.results);
    let proofs = evidence.candidates.iter().flat_map(|candidate| &candidate.proofs).map(|proof| &proof.result);
    for result in observed.chain(proofs) {
        tried.entry(result.address).or_default().push(result);
    }
    let mut tried: Vec<(IpAddr, Vec<&AddressResult>)> = tried.into_iter().collect();
    tried.sort_by_key(|(_, results)| results.iter().all(|result| result.is_success()));
    for (address, results) in tried.iter().take(SHOWN) {
        let _ = writeln!(page, "- {address}: {}", outcome(results, language));
    }
    if let Some(more) = tried.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = match language {
            English => writeln!(page, "- {more} more addresses: probes.txt"),
            Japanese => writeln!(page, "- ほか {more} 件のアドレスは probes.txt を参照"),
        };
    }
}

fn outcome(results: &[&AddressResult], language: Language) -> String {
    let (all, whole) = (results.len(), results.iter().filter(|result| result.is_success()).count());
    let status = results.iter().find_map(|result| result.http.as_ref()).map(|http| http.status);
    let comma = language.of((", ", "、"));
    let status = status.map(|status| format!("{comma}HTTP {status}")).unwrap_or_default();
    let Some(failure) = results.iter().find_map(|result| result.failure.as_ref()) else {
        return match language {
            English => format!("works ({all} of {all} probes{status})"),
            Japanese => format!("正常（{all} 件中 {all} 件{status}）"),
        };
    };
    let class = failure.class.name();
    match language {
        English => {
            format!("fails at {}: {} ({whole} of {all} probes work{status})", failure.stage.name(), failure.detail)
        }
        Japanese => {
            format!("{}に失敗（{class}、{all} 件中 {whole} 件が正常{status}）", words::stage_ja(failure.stage))
        }
    }
}

/// `2026-01-02 03:04:05`
fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ukai_core::diagnose::verdict::Code;

    #[test]
    fn every_verdict_has_words_of_its_own_in_both_languages() {
        let codes: Vec<Code> = RULES.iter().map(|rule| rule.code).chain([Code::Open]).collect();
        let labels: BTreeSet<&str> = codes.iter().map(|code| words(*code).label_ja).collect();
        let causes: BTreeSet<&str> = codes.iter().map(|code| words(*code).cause_ja).collect();
        assert_eq!((labels.len(), causes.len()), (codes.len(), codes.len()));
        for ask in codes.iter().flat_map(|code| [words(*code).peer, words(*code).cloud]).flatten() {
            assert!(ask.0.ends_with('.') && ask.0.is_ascii(), "{ask:?}");
            assert!(ask.1.ends_with('。') && !ask.1.is_ascii(), "{ask:?}");
        }
    }
}
