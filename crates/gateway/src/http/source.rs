//! Where a request comes from: by which name the server was called, from which page, from whom.
//!
//! A web page somewhere else must neither reach this server under a name of its own (DNS rebinding)
//! nor send it anything. Whom a proxy speaks for is believed only of proxies that are named in the
//! configuration.

use std::net::IpAddr;

use hyper::header::{FORWARDED, HOST, ORIGIN};
use hyper::{HeaderMap, Request, Uri, Version};

use super::problem::{Kind, Problem};
use super::settings::HttpSettings;

/// Addresses of one list that are read, from its end.
const HOPS_MAX: usize = 16;

/// Who asks, before it is known who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The address that counts for limits; none over the unix socket.
    pub(super) address: Option<IpAddr>,
    /// The browser's end is known to be TLS.
    pub(super) secure: bool,
}

/// Checks by which name and from which page it comes. `peer` is who holds the connection; nobody
/// over the unix socket.
pub(super) fn check<B>(
    request: &Request<B>,
    settings: &HttpSettings,
    peer: Option<IpAddr>,
) -> Result<Source, Problem> {
    let headers = request.headers();
    let host = host_of(request.uri(), headers, request.version())?;
    if let Some(host) = host
        && !is_own_host(host, settings)
    {
        let detail = format!(
            "this server is not {host:?}; reach it as localhost or 127.0.0.1, or name that in \
             `hosts`"
        );
        return Err(Problem::new(Kind::Misdirected, detail));
    }
    check_page(headers, host, settings)?;
    Ok(source(headers, settings, peer))
}

/// Browsers say which page a request comes from, except for plain reads of the page's own server,
/// and of others where the page can't see the answer.
fn check_page(
    headers: &HeaderMap,
    host: Option<&str>,
    settings: &HttpSettings,
) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let own = |from: &str| {
        Some(from) == host || settings.hosts.iter().any(|name| name.eq_ignore_ascii_case(from))
    };
    if from.is_some_and(own) {
        return Ok(());
    }
    Err(foreign(origin))
}

fn foreign(origin: &str) -> Problem {
    Problem::new(Kind::ForeignOrigin, format!("a page of {origin:?} may not do this"))
}

/// What only counts where a browser adds a cookie by itself: it also says whether another site's
/// page made it ask.
pub(super) fn check_site(headers: &HeaderMap) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").map(|site| site.to_str().unwrap_or_default());
    match site {
        None | Some("same-origin" | "none") => Ok(()),
        Some(other) => Err(foreign(other)),
    }
}

fn source(headers: &HeaderMap, settings: &HttpSettings, peer: Option<IpAddr>) -> Source {
    let trusted =
        |address: IpAddr| settings.trusted_proxies.iter().any(|network| network.contains(address));
    let Some(proxy) = peer.filter(|peer| trusted(*peer)) else {
        return Source { address: peer, secure: false };
    };
    let by_x = headers.contains_key("x-forwarded-for");
    let by_forwarded = headers.contains_key(FORWARDED);
    let hops = match (by_x, by_forwarded) {
        (true, false) => hops_of_x(headers),
        (false, true) => hops_of_forwarded(headers),
        // A proxy writes one of them and passes the other on as it came: nobody knows which.
        (true, true) | (false, false) => Vec::new(),
    };
    // The nearest one that no trusted proxy could have written is the client; what stands before
    // it, the client may have made up.
    let mut address = proxy;
    for hop in hops {
        let Some(hop) = hop else { break };
        address = hop.to_canonical();
        if !trusted(address) {
            break;
        }
    }
    Source { address: Some(address), secure: is_https(headers) }
}

/// From the last to the first; none where there is no address.
fn hops_of_x(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lists = headers.get_all("x-forwarded-for").iter().rev();
    let hops = lists.flat_map(|list| list.to_str().unwrap_or("?").rsplit(','));
    hops.take(HOPS_MAX).map(address_of).collect()
}

fn hops_of_forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lists = headers.get_all(FORWARDED).iter().rev();
    let hops = lists.flat_map(|list| list.to_str().unwrap_or("?").rsplit(','));
    let for_whom = |hop: &str| part(hop, "for").and_then(address_of);
    hops.take(HOPS_MAX).map(for_whom).collect()
}

/// A part of one element of `Forwarded`, without its quotes.
fn part<'a>(hop: &'a str, name: &str) -> Option<&'a str> {
    hop.split(';').find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// An address, with or without a port, or in brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']')?.0.parse().ok();
    }
    let bare = text.parse().ok();
    bare.or_else(|| text.split_once(':').and_then(|(address, _)| address.parse().ok()))
}

fn is_https(headers: &HeaderMap) -> bool {
    let by_x = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
    let proto = by_x.and_then(|list| list.rsplit(',').next()).or_else(|| {
        let list = headers.get(FORWARDED)?.to_str().ok()?;
        part(list.rsplit(',').next()?, "proto")
    });
    proto.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"))
}

/// Whom the request is for; an old client may leave it out.
fn host_of<'a>(
    uri: &'a Uri,
    headers: &'a HeaderMap,
    version: Version,
) -> Result<Option<&'a str>, Problem> {
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.as_str()));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let bad = |detail: &'static str| Err(Problem::new(Kind::BadRequest, detail));
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => match host.to_str() {
            Ok(host) => Ok(Some(host)),
            Err(_) => bad("the Host header is not readable"),
        },
        (None, _) if version == Version::HTTP_11 => bad("the Host header is missing"),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => bad("there is more than one Host header"),
    }
}

fn is_own_host(host: &str, settings: &HttpSettings) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if is_port(port) => {
                return name.parse().is_ok_and(|address| is_own_address(address, settings));
            }
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if is_digits(port) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost")
        || settings.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
        || name.parse().is_ok_and(|address| is_own_address(address, settings))
}

/// A page can't make up an address, only a name; so where the server listens on every address,
/// every address is taken for one of its own.
fn is_own_address(address: IpAddr, settings: &HttpSettings) -> bool {
    let address = address.to_canonical();
    let listens = settings.listen.map(|own| own.ip().to_canonical());
    address.is_loopback() || listens.is_some_and(|own| own.is_unspecified() || own == address)
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(is_digits)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(hosts: &[&str], listen: &str, proxies: &[&str]) -> HttpSettings {
        HttpSettings {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            listen: (!listen.is_empty()).then(|| listen.parse().unwrap()),
            trusted_proxies: proxies.iter().map(|proxy| proxy.parse().unwrap()).collect(),
            ..HttpSettings::default()
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_names_of_this_machine_are_ours() {
        let own = HttpSettings::default();
        let ours = ["localhost", "LocalHost:7878", "127.0.0.1", "127.0.0.1:1", "127.1.2.3:80"];
        for host in ours.into_iter().chain(["[::1]", "[::1]:7878"]) {
            assert!(is_own_host(host, &own), "{host}");
        }
        let foreign = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80"];
        for host in foreign.into_iter().chain(["10.0.0.1", "[::2]:1", "::1", "", "localhost:x"]) {
            assert!(!is_own_host(host, &own), "{host}");
        }
    }

    #[test]
    fn names_and_addresses_can_be_added() {
        let check = |settings: &HttpSettings, host: &str, expect: bool| {
            assert_eq!(is_own_host(host, settings), expect, "{host}");
        };
        let named = settings(&["chat.example.org"], "10.0.0.1:7878", &[]);
        check(&named, "chat.example.org", true);
        check(&named, "Chat.Example.org:8443", true);
        check(&named, "example.org", false);
        check(&named, "evil.chat.example.org", false);
        check(&named, "10.0.0.1:7878", true);
        check(&named, "10.0.0.2", false);
        let everywhere = settings(&[], "0.0.0.0:7878", &[]);
        check(&everywhere, "10.0.0.2", true);
        check(&everywhere, "[2001:db8::1]:7878", true);
        check(&everywhere, "rebound.example:7878", false);
    }

    #[test]
    fn a_page_may_only_ask_where_it_came_from() {
        let named = settings(&["chat.example.org"], "", &[]);
        let check_page = |host: &'static str, origin: &'static str, expect: bool| {
            for method in ["POST", "GET"] {
                let request = Request::builder().method(method);
                let request = request.header(HOST, host).header(ORIGIN, origin).body(()).unwrap();
                assert_eq!(check(&request, &named, None).is_ok(), expect, "{host} {origin}");
            }
        };
        check_page("localhost:1", "http://localhost:1", true);
        check_page("localhost:1", "https://localhost:1", true);
        check_page("localhost:1", "http://localhost:2", false);
        check_page("localhost:1", "http://evil.example", false);
        check_page("localhost:1", "null", false);
        check_page("evil.example", "http://evil.example", false);
        // Behind a proxy that calls the server by another name.
        check_page("localhost:1", "https://chat.example.org", true);
        check_page("localhost:1", "https://chat.example.org:1234", false);
        check_page("chat.example.org", "https://chat.example.org", true);
    }

    #[test]
    fn a_cookie_counts_on_its_own_page_only() {
        let check = |site: &'static str, expect: bool| {
            assert_eq!(check_site(&headers(&[("sec-fetch-site", site)])).is_ok(), expect, "{site}");
        };
        check("same-origin", true);
        check("none", true);
        check("same-site", false);
        check("cross-site", false);
        assert!(check_site(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let near = settings(&[], "", &["10.0.0.0/8", "fd00::/8"]);
        let check = |peer: &str, pairs: &[(&'static str, &'static str)], expect: &str| {
            let found = source(&headers(pairs), &near, Some(peer.parse().unwrap()));
            let secure = if found.secure { " secure" } else { "" };
            assert_eq!(format!("{}{secure}", found.address.unwrap()), expect, "{peer} {pairs:?}");
        };
        let x = "x-forwarded-for";
        check("192.0.2.1", &[(x, "198.51.100.7")], "192.0.2.1");
        check("192.0.2.1", &[("x-forwarded-proto", "https")], "192.0.2.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &[(x, "198.51.100.7")], "198.51.100.7");
        check("::ffff:10.0.0.1", &[(x, "198.51.100.7:1234")], "198.51.100.7");
        // Only what the proxies wrote counts; what the client wrote itself stands before it.
        check("10.0.0.1", &[(x, "1.2.3.4, 198.51.100.7, 10.0.0.2")], "198.51.100.7");
        check("10.0.0.1", &[(x, "1.2.3.4"), (x, "198.51.100.7")], "198.51.100.7");
        check("10.0.0.1", &[(x, "1.2.3.4, nonsense")], "10.0.0.1");
        check("10.0.0.1", &[(x, "1.2.3.4, unknown, 10.0.0.2")], "10.0.0.2");
        let forwarded = "forwarded";
        let both = "for=1.2.3.4, for=\"[2001:db8::7]:99\";proto=https, For=10.9.9.9;Proto=HTTPS";
        check("fd00::1", &[(forwarded, both)], "2001:db8::7 secure");
        check("10.0.0.1", &[(forwarded, "for=_hidden")], "10.0.0.1");
        // Nobody knows which of the two the proxy wrote.
        check("10.0.0.1", &[(forwarded, "for=1.2.3.4"), (x, "198.51.100.7")], "10.0.0.1");
        let proto = ("x-forwarded-proto", "https");
        check("10.0.0.1", &[(x, "198.51.100.7"), proto], "198.51.100.7 secure");
        check(
            "10.0.0.1",
            &[(x, "198.51.100.7"), ("x-forwarded-proto", "https, http")],
            "198.51.100.7",
        );
        assert_eq!(source(&HeaderMap::new(), &near, None).address, None);
    }
}
