//! One page for the peer's support or the cloud's, in English and in Japanese: what was asked, what came, what is expected.

use std::collections::BTreeSet;
use std::fmt::Write;

use jiff::Timestamp;
use ukai_core::diagnose::evidence::{Asked, Evidence, Source};
use ukai_core::diagnose::reading::list;
use ukai_core::diagnose::verdict::{Code, Party, Sure, Verdict};
use ukai_core::observe::AddressResult;

use super::Saved;

/// Lines of each list on the page.
const SHOWN: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Japanese,
}

/// A cause in Japanese, and what is asked of whoever reads it.
struct Words {
    ja: &'static str,
    ask_en: &'static str,
    ask_ja: &'static str,
}

pub fn page(saved: &Saved, verdict: &Verdict, language: Language) -> String {
    let evidence = &saved.evidence;
    let words = words(verdict.code);
    let second = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let (started, finished) = (second(evidence.started_at), second(evidence.finished_at));
    let mut page = String::new();
    match language {
        Language::English => {
            let _ = writeln!(page, "# {} cannot be used from our network\n", evidence.host);
            let _ =
                writeln!(page, "Evidence gathered from {started} to {finished} (UTC) by ukai, an automatic tool.\n");
            let _ = writeln!(
                page,
                "## What we think it is\n{} ({}, {}).",
                verdict.summary,
                verdict.code.name(),
                sure_en(verdict.sure)
            );
            let _ = writeln!(page, "Whose side: {}.\n", party_en(verdict.party));
            page.push_str("## What we asked, and what came\n");
        }
        Language::Japanese => {
            let _ = writeln!(page, "# 弊社ネットワークから {} を利用できません\n", evidence.host);
            let _ = writeln!(
                page,
                "証拠の収集時刻: {started} ～ {finished}（UTC）。自動診断ツール ukai が収集しました。\n"
            );
            let _ = writeln!(
                page,
                "## 推定される原因\n{}（{}、確度: {}）",
                words.ja,
                verdict.code.name(),
                sure_ja(verdict.sure)
            );
            let _ = writeln!(page, "原因の所在: {}\n", party_ja(verdict.party));
            page.push_str("## 問い合わせ内容と応答\n");
        }
    }
    facts(&mut page, evidence, language);
    match language {
        Language::English => {
            page.push_str("\n## Why we think so\n");
            reasons(&mut page, verdict, "(against) ");
            let _ = writeln!(page, "\n## What we ask of you\n{}\n", words.ask_en);
            page.push_str("Details are in the files beside this page. Contact: (please fill in)\n");
        }
        Language::Japanese => {
            page.push_str("\n## 根拠（ツールの出力、英文）\n");
            reasons(&mut page, verdict, "（反証）");
            let _ = writeln!(page, "\n## お願いしたいこと\n{}\n", words.ask_ja);
            page.push_str("詳細は同梱のファイルをご覧ください。連絡先:（ご記入ください）\n");
        }
    }
    page
}

fn reasons(page: &mut String, verdict: &Verdict, against: &str) {
    for reason in verdict.evidence_for.iter().take(SHOWN) {
        let _ = writeln!(page, "- {reason}");
    }
    for reason in verdict.evidence_against.iter().take(SHOWN) {
        let _ = writeln!(page, "- {against}{reason}");
    }
}

fn facts(page: &mut String, evidence: &Evidence, language: Language) {
    let english = language == Language::English;
    for (source, en, ja) in [
        (Source::OurResolver, "our resolver", "弊社のリゾルバー"),
        (Source::Authority, "the authoritative servers", "権威サーバー"),
        (Source::Independent, "independent resolvers", "第三者のリゾルバー"),
    ] {
        let asked: Vec<&Asked> =
            evidence.asked.iter().filter(|asked| asked.source == source && asked.is_address_question()).collect();
        if asked.is_empty() {
            continue;
        }
        let addresses: BTreeSet<_> =
            asked.iter().filter_map(|asked| asked.answer()).flat_map(|answer| &answer.addresses).collect();
        let silent = asked.iter().filter(|asked| asked.answer().is_none()).count();
        let (count, told) = (asked.len(), list(addresses));
        let _ = match english {
            true => writeln!(page, "- DNS, {en}: {told} ({count} questions, {silent} without an answer)"),
            false => writeln!(page, "- DNS（{ja}）: {told}（{count} 件中 {silent} 件は無応答）"),
        };
    }
    let results = evidence.observations.iter().flat_map(|observation| &observation.results);
    for result in results.take(SHOWN) {
        let _ = writeln!(page, "- {}", address(result, english));
    }
    let (passed, all) = (evidence.controls.iter().filter(|control| control.passed()).count(), evidence.controls.len());
    let _ = match english {
        true => writeln!(page, "- Unrelated sites reached from the same place: {passed} of {all}"),
        false => writeln!(page, "- 同じ場所から到達できた無関係のサイト: {all} 件中 {passed} 件"),
    };
    for view in evidence.vantages.iter().take(SHOWN) {
        let whole = view.results.iter().filter(|proof| proof.result.is_success()).count();
        let _ = match (english, &view.silence) {
            (true, None) => writeln!(page, "- {}: {whole} of {} probes work there", view.vantage, view.results.len()),
            (false, None) => {
                writeln!(page, "- {}: {} 件中 {whole} 件のプローブが成功", view.vantage, view.results.len())
            }
            (true, Some(_)) => writeln!(page, "- {}: could not be asked", view.vantage),
            (false, Some(_)) => writeln!(page, "- {}: 確認できませんでした", view.vantage),
        };
    }
}

fn address(result: &AddressResult, english: bool) -> String {
    match (&result.failure, english) {
        (Some(failure), true) => {
            format!(
                "{}: fails at {} ({}): {}",
                result.address,
                failure.stage.name(),
                failure.class.name(),
                failure.detail
            )
        }
        (Some(failure), false) => {
            format!("{}: {} 段階で失敗（{}）", result.address, failure.stage.name(), failure.class.name())
        }
        (None, true) => format!("{}: works", result.address),
        (None, false) => format!("{}: 正常", result.address),
    }
}

fn sure_en(sure: Sure) -> &'static str {
    match sure {
        Sure::Proven => "proven: every earlier cause was excluded",
        Sure::Likely => "likely: see what speaks against it",
        Sure::Open => "open: not known yet",
    }
}

fn sure_ja(sure: Sure) -> &'static str {
    match sure {
        Sure::Proven => "確定（他の原因はすべて除外済み）",
        Sure::Likely => "有力（反証も併記）",
        Sure::Open => "未確定",
    }
}

fn party_en(party: Party) -> &'static str {
    match party {
        Party::Peer => "the service's",
        Party::OurNetwork => "our network's",
        Party::OurResolver => "our resolver's",
        Party::OurApplication => "our application's",
        Party::Attacker => "a third party's, possibly an attacker's",
        Party::Unknown => "not known",
    }
}

fn party_ja(party: Party) -> &'static str {
    match party {
        Party::Peer => "サービス提供者側",
        Party::OurNetwork => "弊社のネットワーク",
        Party::OurResolver => "弊社が利用するリゾルバー",
        Party::OurApplication => "弊社のアプリケーション",
        Party::Attacker => "第三者（攻撃の可能性あり）",
        Party::Unknown => "不明",
    }
}

const fn words_of(ja: &'static str, ask_en: &'static str, ask_ja: &'static str) -> Words {
    Words { ja, ask_en, ask_ja }
}

fn words(code: Code) -> Words {
    match code {
        Code::StaleResolver | Code::TtlViolation | Code::StaleResolverTransient => words_of(
            "リゾルバーが古いアドレスを返し続けています。権威サーバーの応答は新しいアドレスです。",
            "Of whoever runs the resolver: why does it give this answer, and can its cache be flushed for this one name? Of the service: please confirm the new addresses.",
            "リゾルバーの運用者の方へ: この応答が返る理由の調査と、この名前のキャッシュの削除をお願いします。サービス提供者の方へ: 新しいアドレスが正しいことをご確認ください。",
        ),
        Code::NegativeCache => words_of(
            "リゾルバーが「アドレスなし」または失敗の応答を保持しています。権威サーバーはアドレスを返します。",
            "Of whoever runs the resolver: can its cache be flushed for this one name?",
            "リゾルバーの運用者の方へ: この名前のキャッシュの削除をお願いします。",
        ),
        Code::OwnResolver => words_of(
            "リゾルバーが無関係な名前にも応答できません。",
            "Of whoever runs the resolver: is there a known fault, and when will it be mended?",
            "リゾルバーの運用者の方へ: 障害の有無と復旧見込みをお知らせください。",
        ),
        Code::OwnEgress | Code::OwnV6 | Code::Intercepted | Code::DnsIntercepted | Code::OwnFirewall | Code::Mtu => {
            words_of(
                "弊社ネットワークの経路（出口、ファイアウォール、プロキシー、MTU など）に問題があります。",
                "Of whoever runs our network: please look at routes, address lists, proxies and path MTU towards the addresses above.",
                "ネットワークの運用者の方へ: 上記アドレスへの経路、許可リスト、プロキシー、パス MTU の確認をお願いします。",
            )
        }
        Code::ClockSkew => words_of(
            "弊社側の時計がずれています。",
            "Nothing of the service. We have to set our clock.",
            "サービス提供者の方へのお願いはありません。弊社で時刻を修正します。",
        ),
        Code::ClientPinned | Code::ConnReuse | Code::ProbeError | Code::OverrideStale | Code::OverrideBlast => {
            words_of(
                "弊社のアプリケーションまたは設定に原因があります。",
                "Nothing of the service. We have to mend our own application or configuration.",
                "サービス提供者の方へのお願いはありません。弊社で対処します。",
            )
        }
        Code::SuspectHijack | Code::IdentityDiscontinuity | Code::Rebinding | Code::Parked | Code::DanglingCname => {
            words_of(
                "名前の指す先が、これまでのサービスと同一であることを確認できません。乗っ取りの可能性があります。",
                "Please confirm, by another way than this name, whether you changed the addresses, the name servers or the certificate; and look at your registrar, zone and aliases.",
                "アドレス、ネームサーバー、証明書を変更されたかどうかを、この名前を使わない方法でご確認・ご回答ください。あわせて、レジストラーの登録内容、ゾーン、別名（CNAME）の点検をお願いします。",
            )
        }
        Code::DnssecBogus => words_of(
            "DNSSEC の検証に失敗しています。",
            "Please compare the DS records at the parent with your DNSKEY records, and check the signatures and their dates.",
            "親ゾーンの DS と貴社の DNSKEY の整合、署名とその有効期限の確認をお願いします。",
        ),
        Code::DelegationRemoved => words_of(
            "親ゾーンからドメインの委任がなくなっています。",
            "Please ask your registrar and registry for the state of the domain (hold, expiry).",
            "レジストラーおよびレジストリーに、ドメインの状態（ホールド、期限切れなど）をご確認ください。",
        ),
        Code::PeerDnsEmpty => words_of(
            "権威サーバーがアドレスを返していません。",
            "Please publish the address records of this name again, and tell us the right ones meanwhile.",
            "この名前のアドレスレコードの再登録と、正しいアドレスのご連絡をお願いします。",
        ),
        Code::LameDelegation => words_of(
            "権威サーバー同士の応答が一致していません。",
            "Please bring all name servers of the zone to the same serial.",
            "ゾーンのすべてのネームサーバーを同じシリアルに揃えてください。",
        ),
        Code::PeerCert => words_of(
            "すべてのアドレスで証明書に問題があります。",
            "Please renew or correct the certificate on every address.",
            "すべてのアドレスの証明書の更新または修正をお願いします。",
        ),
        Code::TlsPolicy => words_of(
            "TLS の接続条件が一致しません。",
            "Please tell us which TLS versions, ciphers and client certificates you accept.",
            "受け付ける TLS のバージョン、暗号方式、クライアント証明書の条件をお知らせください。",
        ),
        Code::RateLimited => words_of(
            "呼び出し回数の制限を受けています。",
            "Please tell us our limit, and whether it changed.",
            "適用されている上限と、変更の有無をお知らせください。",
        ),
        Code::Auth => words_of(
            "認証情報が受け付けられません。",
            "Please tell us whether our key was revoked or has expired.",
            "弊社の認証情報が失効または無効化されていないかご確認ください。",
        ),
        Code::BlockedUs => words_of(
            "弊社の送信元アドレスからの接続だけが拒否されています。",
            "Please look whether our outgoing address is blocked, and allow it.",
            "弊社の送信元アドレスが遮断されていないかの確認と、許可をお願いします。",
        ),
        Code::PartialAddress => words_of(
            "一部のアドレスだけが応答しません。",
            "Please remove the failing addresses from DNS, or mend them.",
            "応答しないアドレスの DNS からの除外、または復旧をお願いします。",
        ),
        Code::V6Path => words_of(
            "IPv6 のアドレスだけが応答しません。",
            "Please mend IPv6, or remove the AAAA records meanwhile.",
            "IPv6 の復旧、または復旧までの AAAA レコードの削除をお願いします。",
        ),
        Code::PathOrPop => words_of(
            "他の場所からは利用できますが、弊社からの経路、または接続先の拠点で失敗しています。",
            "Please look at the place that serves the network above, and at the way to it.",
            "上記ネットワークを担当する拠点と、そこまでの経路の確認をお願いします。",
        ),
        Code::PeerRegion => words_of(
            "弊社が案内される拠点（リージョン）だけが停止しています。",
            "Please tell us when that region will be back, and which endpoint to use meanwhile.",
            "当該リージョンの復旧見込みと、それまでに利用すべき接続先をお知らせください。",
        ),
        Code::PeerHttp => words_of(
            "到達できますが、すべてのアドレスでエラーが返ります。",
            "Please tell us whether there is an incident, and when it will be over.",
            "障害の有無と復旧見込みをお知らせください。",
        ),
        Code::PeerDown => words_of(
            "すべてのアドレスに接続できません。",
            "Please tell us whether there is an incident, when it will be over, and whether the addresses change.",
            "障害の有無、復旧見込み、アドレス変更の有無をお知らせください。",
        ),
        Code::Rotating | Code::GeoSteered => words_of(
            "応答は場所や時刻によって異なりますが、異常はありません。",
            "Nothing: all is as it should be.",
            "お願いはありません。正常です。",
        ),
        Code::Open => words_of(
            "原因はまだ特定できていません。",
            "Please compare what we saw with what you see.",
            "弊社の観測結果と、貴社側の状況の照合をお願いします。",
        ),
    }
}
