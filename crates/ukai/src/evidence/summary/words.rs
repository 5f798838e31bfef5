//! Each verdict in the words of whoever is asked to help: the layer, the cause in Japanese, and what is asked of whom.

use ukai_core::diagnose::verdict::{Code, Party, Sure};
use ukai_core::observe::Stage;

/// English, Japanese.
pub type Both = (&'static str, &'static str);

pub struct Words {
    /// A few words for lists of causes.
    pub label_ja: &'static str,
    pub cause_ja: &'static str,
    pub layer: Both,
    /// What is asked of the peer's support.
    pub peer: Option<Both>,
    /// What is asked of whoever runs our cloud, network or resolver.
    pub cloud: Option<Both>,
}

const CLOCK: Both = ("the clock of our machine", "弊社側マシンの時刻");
const OWN: Both = ("our own network", "弊社ネットワーク");
const RESOLVER: Both = ("name resolution, at the resolver that we use", "名前解決（弊社が利用するリゾルバー）");
const PEER_DNS: Both = ("name resolution, at the service's own DNS", "名前解決（サービス側の DNS）");
const ADDRESS: Both = ("the connection (IP and TCP)", "IP・TCP 接続");
const TLS: Both = ("TLS", "TLS");
const HTTP: Both = ("HTTP", "HTTP");
const IDENTITY: Both = ("who answers at the name", "接続先の真正性");
const CLIENT: Both = ("our own application or settings", "弊社のアプリケーション・設定");
const NONE: Both = ("none yet", "未特定");

const fn of(label_ja: &'static str, layer: Both, cause_ja: &'static str) -> Words {
    Words { label_ja, cause_ja, layer, peer: None, cloud: None }
}

impl Words {
    const fn peer(mut self, en: &'static str, ja: &'static str) -> Words {
        self.peer = Some((en, ja));
        self
    }

    const fn cloud(mut self, en: &'static str, ja: &'static str) -> Words {
        self.cloud = Some((en, ja));
        self
    }
}

/// The causes, in the order of the codes.
pub const fn words(code: Code) -> Words {
    match code {
        Code::ClockSkew | Code::OwnEgress | Code::OwnResolver | Code::Intercepted | Code::DnsIntercepted => own(code),
        Code::OwnV6 | Code::OwnFirewall | Code::Mtu | Code::PathOrPop | Code::BlockedUs => path(code),
        Code::NegativeCache | Code::StaleResolver | Code::StaleResolverTransient | Code::TtlViolation => resolver(code),
        Code::Rebinding | Code::Parked | Code::SuspectHijack | Code::IdentityDiscontinuity | Code::DanglingCname => {
            identity(code)
        }
        Code::DnssecBogus | Code::DelegationRemoved | Code::PeerDnsEmpty | Code::LameDelegation => peer_dns(code),
        Code::Rotating | Code::GeoSteered | Code::Open => nobody(code),
        Code::PeerCert
        | Code::TlsPolicy
        | Code::PartialAddress
        | Code::V6Path
        | Code::PeerRegion
        | Code::PeerHttp
        | Code::PeerDown
        | Code::RateLimited
        | Code::Auth => peer(code),
        Code::ConnReuse | Code::ProbeError | Code::ClientPinned | Code::OverrideBlast | Code::OverrideStale => {
            client(code)
        }
    }
}

const fn own(code: Code) -> Words {
    match code {
        Code::ClockSkew => of(
            "弊社側の時刻のずれ",
            CLOCK,
            "弊社側マシンの時刻がずれているため、証明書や署名の検証に失敗しています。",
        )
        .cloud(
            "If the time source is yours, please tell us whether it is known to be wrong.",
            "時刻同期元（NTP）をご提供いただいている場合、時刻のずれに関する既知の障害がないかお知らせください。",
        ),
        Code::OwnEgress => of(
            "弊社ネットワークの外向き通信障害",
            OWN,
            "弊社ネットワークから外部へ出る通信そのものができていません。無関係なサイトにも到達できません。",
        )
        .cloud(
            "Please look at NAT, routes, security groups and the internet gateway of our network for the time above, and tell us of known incidents.",
            "上記の時間帯について、弊社環境の NAT、ルートテーブル、セキュリティグループ、インターネットゲートウェイの状態をご確認のうえ、既知の障害があればお知らせください。",
        ),
        Code::OwnResolver => of(
            "弊社が利用するリゾルバーの障害",
            RESOLVER,
            "弊社が利用するリゾルバーが、無関係な名前を含めて名前解決に失敗しているか、この名前を規則により遮断または変更しています。サービス側の問題ではありません。",
        )
        .cloud(
            "Please tell us whether the resolver has a known fault or a rule for this name, and when it will be mended. Which queries failed, and how, is in dns/.",
            "リゾルバーの障害またはこの名前に対する規則の有無と、復旧見込みをお知らせください。失敗した問い合わせと応答は dns/ に収めています。",
        ),
        Code::Intercepted => of(
            "経路上のプロキシーによる TLS の横取り",
            OWN,
            "弊社側の経路上にあるプロキシーが TLS 接続を終端しており、実際のサービスに到達していません。",
        )
        .cloud(
            "Please tell us which proxy or inspection device answers TLS on our path, and exempt this name.",
            "経路上で TLS を終端しているプロキシーまたは検査装置の特定と、この名前の検査対象からの除外をお願いします。",
        ),
        _ => of(
            "53 番ポートの横取り",
            OWN,
            "弊社側の経路上で DNS（53 番ポート）の通信が横取りされており、権威サーバーの応答に見えるものは別の機器の応答です。",
        )
        .cloud(
            "Please tell us which device answers DNS on our path, and let port 53 (UDP and TCP) through to the authoritative servers.",
            "経路上で DNS に応答している機器の特定と、権威サーバーへの 53 番ポート（UDP・TCP）の通信の許可をお願いします。",
        ),
    }
}

const fn path(code: Code) -> Words {
    match code {
        Code::OwnV6 => of(
            "弊社ネットワークの IPv6 障害",
            OWN,
            "弊社ネットワークから IPv6 で外部へ出られません。IPv4 は正常です。",
        )
        .cloud(
            "Please look at our IPv6 routes and gateways.",
            "弊社環境の IPv6 のルートおよびゲートウェイの確認をお願いします。",
        ),
        Code::OwnFirewall => of(
            "弊社側の許可リストの不足",
            OWN,
            "サービスの新しいアドレスへの通信だけが、弊社側のファイアウォール（許可リスト）で止められているとみられます。",
        )
        .peer(
            "Please confirm that the addresses above are yours, and tell us all the networks that you serve from.",
            "上記のアドレスが貴社のものであること、および利用されるアドレス範囲の全体をお知らせください。",
        )
        .cloud(
            "Please look at the outbound rules of our network for the addresses above.",
            "上記アドレス宛ての外向き通信を制限している設定がないか、ご確認をお願いします。",
        ),
        Code::Mtu => of(
            "経路上での大きなパケットの消失",
            ADDRESS,
            "接続は確立しますが、応答の途中で止まります。経路上で大きなパケットが失われている（パス MTU の問題）とみられます。",
        )
        .peer(
            "Please look whether ICMP \"packet too big\" reaches your servers, and whether the MSS is clamped.",
            "サーバー側で ICMP（Packet Too Big / Fragmentation Needed）が遮断されていないか、MSS の調整の有無とあわせてご確認をお願いします。",
        )
        .cloud(
            "Please look at the path MTU towards the addresses above (tunnels, VPN, ICMP filters).",
            "上記アドレスまでの経路の MTU（トンネル、VPN、ICMP フィルター）の確認をお願いします。",
        ),
        Code::PathOrPop => of(
            "経路または接続先拠点の障害",
            ADDRESS,
            "同じアドレスが他のネットワークからは利用できます。弊社からの経路、または弊社が接続される拠点に問題があるとみられます。",
        )
        .peer(
            "Please look at the site that serves our network, and at the way to it. Where our questions were answered from is in dns/ (NSID).",
            "弊社のネットワークが接続される拠点と、そこまでの経路の確認をお願いします。応答したサーバーの識別子（NSID）は dns/ に収めています。",
        )
        .cloud(
            "Please look at your routes towards the addresses above for the time above.",
            "上記の時間帯について、上記アドレスまでの経路に異常がないかご確認をお願いします。",
        ),
        _ => of(
            "弊社の送信元アドレスの拒否",
            HTTP,
            "弊社の送信元アドレスからの接続だけが拒否されているとみられます。",
        )
        .peer(
            "Please look whether our outgoing address is blocked (WAF, allow-list, reputation), and let it in.",
            "弊社の送信元アドレスが WAF や許可リスト、レピュテーションなどで遮断されていないかの確認と、遮断の解除をお願いします。",
        )
        .cloud(
            "Please tell us whether the outgoing addresses of our network changed.",
            "弊社環境の送信元アドレス（NAT など）に変更がなかったかお知らせください。",
        ),
    }
}

const fn resolver(code: Code) -> Words {
    const CONFIRM: Both = (
        "Please confirm that the addresses that your authoritative servers give are right, and tell us when they changed.",
        "権威サーバーが返すアドレスが正しいことのご確認と、変更された時刻のご連絡をお願いします。",
    );
    const FLUSH: Both = (
        "Please find out why your resolver gives this answer, and flush its cache for this one name. The answers, with their TTLs, are in dns/.",
        "リゾルバーがこの応答を返す理由の調査と、この名前のキャッシュの削除をお願いします。応答と TTL は dns/ に収めています。",
    );
    let words = match code {
        Code::NegativeCache => of(
            "失敗・不在の応答のキャッシュ",
            RESOLVER,
            "リゾルバーが、この名前について「アドレスなし」または失敗という結果を保持し続けています。権威サーバーはアドレスを返しています。",
        ),
        Code::StaleResolver => of(
            "リゾルバーの古い応答",
            RESOLVER,
            "リゾルバーが、TTL を過ぎても古いアドレスを返し続けています。権威サーバーは新しいアドレスを返しており、そのアドレスは正常に応答します。",
        ),
        Code::StaleResolverTransient => of(
            "TTL 内の古い応答",
            RESOLVER,
            "リゾルバーが、権威サーバーの現在の応答と異なるアドレスを返しています。まだ TTL の範囲内です。",
        ),
        _ => of(
            "TTL に反した応答",
            RESOLVER,
            "リゾルバーが、サービス側が指定したことのない TTL で古いアドレスを返しています。",
        ),
    };
    Words { peer: Some(CONFIRM), cloud: Some(FLUSH), ..words }
}

const fn identity(code: Code) -> Words {
    match code {
        Code::Rebinding => of(
            "公開サービスにあり得ないアドレス",
            IDENTITY,
            "この名前が、公開サービスでは使われないはずのアドレス（プライベートアドレスなど）を指しています。",
        )
        .peer(
            "Please look at the address records of this name: they hold an address that nobody outside can use.",
            "この名前のアドレスレコードに、外部から利用できないアドレスが登録されていないかご確認ください。",
        ),
        Code::Parked => of(
            "ドメインのパーキング",
            IDENTITY,
            "この名前が、レジストラーやドメインパーキング事業者のページを指しています。ドメインが失効した可能性があります。",
        )
        .peer(
            "Please look at once whether your domain has lapsed or was moved, and tell us by another way than this name.",
            "ドメインの失効や移転がないかを至急ご確認のうえ、この名前を使わない方法でご回答ください。",
        ),
        Code::SuspectHijack => of(
            "名前の乗っ取りの疑い",
            IDENTITY,
            "この名前が、これまで見たことのないアドレスを指し、そこでは別の相手が応答しています。乗っ取りの疑いがあります。",
        )
        .peer(
            "Treat this as a security incident. Please look at your zone, name servers and registrar account, and tell us by another way than this name what is right.",
            "セキュリティインシデントとしてお取り扱いください。ゾーン、ネームサーバー、レジストラーのアカウントを点検し、正しい情報をこの名前を使わない方法でお知らせください。",
        ),
        Code::IdentityDiscontinuity => of(
            "接続先の同一性の途切れ",
            IDENTITY,
            "この名前の接続先が有効な証明書を示していますが、これまでのサービスと同じ相手であることを確認できません。",
        )
        .peer(
            "Please confirm, by another way than this name, whether you changed addresses, name servers or keys, and when. What we saw is in certificates/.",
            "アドレス、ネームサーバー、鍵を変更されたかどうか（変更された場合はその時刻）を、この名前を使わない方法でお知らせください。観測した証明書は certificates/ に収めています。",
        ),
        _ => of(
            "別名（CNAME）の宛先の不在",
            IDENTITY,
            "この名前は別名（CNAME）ですが、その宛先が存在しないか、循環しているか、別の相手のものになっています。",
        )
        .peer(
            "Please mend or remove the alias. Somebody else may take what it points to.",
            "別名の修正または削除をお願いします。宛先が第三者に取得されるおそれがあります。",
        ),
    }
}

const fn peer_dns(code: Code) -> Words {
    match code {
        Code::DnssecBogus => of(
            "DNSSEC の検証失敗",
            PEER_DNS,
            "この名前の DNSSEC の検証に失敗しています。検証を行うリゾルバーでは名前解決ができません。",
        )
        .peer(
            "Please compare the DS records at the parent with your DNSKEY records, and look at the signatures and their dates.",
            "親ゾーンの DS と貴社の DNSKEY の整合、署名とその有効期間の確認をお願いします。",
        ),
        Code::DelegationRemoved => of(
            "委任の消失",
            PEER_DNS,
            "親ゾーンからドメインの委任がなくなっています。レジストリーによる停止、または失効とみられます。",
        )
        .peer(
            "Please ask your registrar and the registry for the state of the domain (hold, expiry).",
            "レジストラーおよびレジストリーに、ドメインの状態（ホールド、期限切れなど）をご確認ください。",
        ),
        Code::PeerDnsEmpty => of(
            "権威サーバー上のアドレスの消失",
            PEER_DNS,
            "サービス側の権威サーバーが一致して、この名前にアドレスがないと応答しています。",
        )
        .peer(
            "Please publish the address records of this name again, and tell us the right addresses meanwhile.",
            "この名前のアドレスレコードの再登録と、それまでの間の正しいアドレスのご連絡をお願いします。",
        ),
        _ => of(
            "権威サーバー間の不一致",
            PEER_DNS,
            "サービス側の権威サーバーの応答が互いに食い違っているか、委任先の権威サーバーがゾーンに応答していません。",
        )
        .peer(
            "Please bring all name servers of the zone to the same serial, and see that each that the parent names answers for the zone. What each of them said is in dns/.",
            "ゾーンのすべてのネームサーバーを同じシリアルに揃え、親ゾーンが示す各サーバーがゾーンに応答することをご確認ください。各サーバーの応答は dns/ に収めています。",
        ),
    }
}

const fn peer(code: Code) -> Words {
    match code {
        Code::PeerCert => of(
            "証明書の期限切れ・名前の不一致",
            TLS,
            "すべてのアドレスで、証明書の期限が切れているか、名前が一致していません。",
        )
        .peer(
            "Please renew or correct the certificate on every address. What each of them shows is in certificates/.",
            "すべてのアドレスの証明書の更新または修正をお願いします。観測した証明書は certificates/ に収めています。",
        ),
        Code::TlsPolicy => of(
            "TLS の条件の不一致",
            TLS,
            "すべてのアドレスで TLS ハンドシェイクが拒否されています。",
        )
        .peer(
            "Please tell us which TLS versions, cipher suites and client certificates you accept, and what changed.",
            "受け付ける TLS のバージョン、暗号スイート、クライアント証明書の条件と、最近の変更点をお知らせください。",
        ),
        Code::PartialAddress => of(
            "一部のアドレスの障害",
            ADDRESS,
            "アドレスの一部だけが応答せず、残りは正常です。",
        )
        .peer(
            "Please mend the failing addresses, or take them out of DNS.",
            "応答しないアドレスの復旧、または DNS からの除外をお願いします。",
        ),
        Code::V6Path => of(
            "IPv6 のみの障害",
            ADDRESS,
            "IPv6 のアドレスだけがすべて失敗し、IPv4 は正常です。",
        )
        .peer(
            "Please mend IPv6, or take the AAAA records out of DNS meanwhile.",
            "IPv6 の復旧、または復旧までの間の AAAA レコードの削除をお願いします。",
        ),
        Code::PeerRegion => of(
            "特定リージョンの障害",
            ADDRESS,
            "弊社が案内される拠点（リージョン）だけが停止しており、他の拠点は稼働しています。",
        )
        .peer(
            "Please tell us when that region will be back, and which endpoint we should use meanwhile.",
            "当該リージョンの復旧見込みと、それまでに利用すべき接続先をお知らせください。",
        ),
        Code::PeerHttp => of(
            "サービスのエラー応答",
            HTTP,
            "接続先には到達でき、証明書も正しいものの、すべてのアドレスでエラーが返ります。",
        )
        .peer(
            "Please tell us whether there is an incident, and when it will be over.",
            "障害の有無と復旧見込みをお知らせください。",
        ),
        Code::PeerDown => of(
            "サービスの停止",
            ADDRESS,
            "どの経路で得たアドレスにも接続できません。サービスが停止しているとみられます。",
        )
        .peer(
            "Please tell us whether there is an incident, when it will be over, and whether the addresses will change.",
            "障害の有無、復旧見込み、およびアドレス変更の予定をお知らせください。",
        ),
        Code::RateLimited => of(
            "呼び出し回数の制限",
            HTTP,
            "呼び出し回数の制限（HTTP 429）を受けています。",
        )
        .peer(
            "Please tell us the limit that applies to us, and whether it changed.",
            "弊社に適用されている上限と、変更の有無をお知らせください。",
        ),
        _ => of(
            "認証の失敗",
            HTTP,
            "弊社の認証情報が受け付けられません。",
        )
        .peer(
            "Please tell us whether our key has expired or was revoked.",
            "弊社の認証情報が期限切れまたは失効となっていないかお知らせください。",
        ),
    }
}

const fn client(code: Code) -> Words {
    match code {
        Code::ConnReuse => of(
            "再利用した接続の切断",
            CLIENT,
            "新しい接続は正常ですが、再利用した接続が切断されます。弊社アプリケーション側で接続の保持時間を短くする必要があります。",
        )
        .peer(
            "Please tell us after how long an idle connection, and after how many requests any connection, is closed.",
            "無通信の接続、およびリクエスト数の上限に達した接続を切断する条件（時間・回数）をお知らせください。",
        ),
        Code::ProbeError => of(
            "弊社側の監視条件の誤り",
            CLIENT,
            "アプリケーションは正常に利用できており、弊社の監視（プローブ）の期待値が誤っています。",
        ),
        Code::ClientPinned => of(
            "弊社アプリケーションの古いアドレスの保持",
            CLIENT,
            "名前解決は正常ですが、弊社のアプリケーションが古いアドレスを保持し続けています。",
        ),
        Code::OverrideBlast => of(
            "弊社の迂回設定の影響範囲",
            CLIENT,
            "弊社が設定した迂回（DNS の上書き）が、サービスの他のレコードまで隠しています。",
        ),
        _ => of(
            "弊社の迂回設定の陳腐化",
            CLIENT,
            "弊社が設定した迂回（DNS の上書き）が古くなっています。サービスはすでに別のアドレスに移っています。",
        ),
    }
}

const fn nobody(code: Code) -> Words {
    match code {
        Code::Rotating => of(
            "応答のローテーション",
            PEER_DNS,
            "応答されるアドレスは問い合わせごとに変わりますが、設計どおりの動作で、いずれのアドレスも正常です。",
        ),
        Code::GeoSteered => of(
            "地域による応答の振り分け",
            PEER_DNS,
            "応答されるアドレスは利用者の場所によって異なりますが、設計どおりの動作で、いずれのアドレスも正常です。",
        ),
        _ => of("原因未特定", NONE, "原因はまだ特定できていません。")
            .peer(
                "Please compare what we saw with what you see at your end for the time above.",
                "上記の時間帯について、弊社の観測結果と貴社側の記録との照合をお願いします。",
            )
            .cloud(
                "Please tell us of known incidents at the time above.",
                "上記の時間帯における既知の障害の有無をお知らせください。",
            ),
    }
}

pub fn stage_ja(stage: Stage) -> &'static str {
    match stage {
        Stage::Resolve => "名前解決",
        Stage::Connect => "TCP 接続",
        Stage::Tls => "TLS ハンドシェイク",
        Stage::Processing => "HTTP 応答の確認",
        Stage::Transfer => "応答本体の受信",
    }
}

pub fn sure(sure: Sure) -> Both {
    match sure {
        Sure::Proven => (
            "proven: every other cause that comes before it was excluded by evidence",
            "確定（先に疑うべき他の原因は、いずれも証拠により除外済み）",
        ),
        Sure::Likely => (
            "likely: what speaks against it, or was not seen, is listed below",
            "有力（未確認の点・反証は下記のとおり）",
        ),
        Sure::Open => (
            "open: no cause explains everything that was seen",
            "未確定（観測結果のすべてを説明できる原因は見つかっていません）",
        ),
    }
}

pub fn party(party: Party) -> Both {
    match party {
        Party::Peer => ("the service's", "サービス提供者側"),
        Party::OurNetwork => ("our own network's", "弊社ネットワーク側"),
        Party::OurResolver => ("that of the resolver that we use", "弊社が利用するリゾルバー側"),
        Party::OurApplication => ("our own application's", "弊社アプリケーション側"),
        Party::Attacker => ("a third party's, possibly an attacker's", "第三者（攻撃の可能性あり）"),
        Party::Unknown => ("not known", "特定できていません"),
    }
}
