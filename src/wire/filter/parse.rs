//! The parser of filter expressions.

use std::str::FromStr;

use super::{DirQualifier, Expression, FilterError, MAX_DEPTH, MAX_LENGTH, Primitive};
use crate::wire::EtherType;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
/// The highest VLAN (802.1Q-2022 table 9-2).
const LAST_VLAN: u16 = 4094;

pub(super) fn parse(expression: &str) -> Result<Expression, FilterError> {
    let mut parser = Parser { expression, tokens: tokens(expression), next: 0 };
    if expression.len() > MAX_LENGTH {
        return Err(parser.error(format!("longer than {MAX_LENGTH} bytes")));
    }
    let parsed = parser.filter(0)?;
    match parser.peek() {
        None => Ok(parsed),
        Some(_) => Err(parser.expected("'and' or 'or'")),
    }
}

/// The tokens of an expression, each with its offset.
fn tokens(expression: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
        rest = &rest[start..];
        let sign = ["(", ")", "!", "&&", "||"].into_iter().find(|sign| rest.starts_with(sign));
        let word = || rest.find(|c: char| c.is_whitespace() || "()!&|".contains(c)).unwrap_or(rest.len());
        let one = rest.chars().next().map_or(0, char::len_utf8);
        let length = sign.map_or_else(word, str::len).max(one);
        tokens.push((expression.len() - rest.len(), &rest[..length]));
        rest = &rest[length..];
    }
    tokens
}

struct Parser<'a> {
    expression: &'a str,
    tokens: Vec<(usize, &'a str)>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.next).map(|(_, token)| *token)
    }

    /// Consumes the next token if it is one of these.
    fn accept(&mut self, words: &[&str]) -> bool {
        let found = self.peek().is_some_and(|token| words.contains(&token));
        self.next += usize::from(found);
        found
    }

    /// An error at the next token.
    fn error(&self, why: String) -> FilterError {
        let at = self.tokens.get(self.next).map_or(self.expression.len(), |(at, _)| *at);
        let at = self.expression[..at].chars().count() + 1;
        FilterError { expression: self.expression.chars().take(MAX_LENGTH).collect(), at, why }
    }

    fn found(&self) -> String {
        self.peek().map_or_else(|| "the end".to_owned(), |token| format!("'{token}'"))
    }

    fn expected(&self, of: &str) -> FilterError {
        self.error(format!("{} instead of {of}", self.found()))
    }

    fn filter(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut so_far = self.term(depth)?;
        loop {
            if self.accept(&["and", "&&"]) {
                so_far = Expression::And(Box::new(so_far), Box::new(self.term(depth)?));
            } else if self.accept(&["or", "||"]) {
                so_far = Expression::Or(Box::new(so_far), Box::new(self.term(depth)?));
            } else {
                return Ok(so_far);
            }
        }
    }

    fn term(&mut self, depth: usize) -> Result<Expression, FilterError> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.accept(&["not", "!"]) {
            return Ok(Expression::Not(Box::new(self.term(depth + 1)?)));
        }
        if !self.accept(&["("]) {
            return self.primitive();
        }
        let inner = self.filter(depth + 1)?;
        if self.accept(&[")"]) { Ok(inner) } else { Err(self.expected("')'")) }
    }

    fn primitive(&mut self) -> Result<Expression, FilterError> {
        let alone = match self.peek() {
            Some("arp") => Primitive::EtherType(EtherType::ARP),
            Some("ip") => Primitive::EtherType(EtherType::IPV4),
            Some("ip6") => Primitive::EtherType(EtherType::IPV6),
            Some("icmp") => Primitive::Protocol(ICMP),
            Some("icmp6") => Primitive::Protocol(ICMP6),
            Some("tcp") => return self.transport(TCP),
            Some("udp") => return self.transport(UDP),
            Some("vlan") => return self.vlan(),
            Some("ether") => return self.ether(),
            _ => return self.ends(),
        };
        self.next += 1;
        Ok(Expression::Is(alone))
    }

    /// `tcp`, `tcp port 80`.
    fn transport(&mut self, protocol: u8) -> Result<Expression, FilterError> {
        self.next += 1;
        let protocol = Expression::Is(Primitive::Protocol(protocol));
        if !matches!(self.peek(), Some("src" | "dst" | "port")) {
            return Ok(protocol);
        }
        let end = self.end();
        if !self.accept(&["port"]) {
            return Err(self.expected("'port'"));
        }
        let port = self.port(end)?;
        Ok(Expression::And(Box::new(protocol), Box::new(port)))
    }

    fn vlan(&mut self) -> Result<Expression, FilterError> {
        self.next += 1;
        let is_number = |token: &str| token.starts_with(|c: char| c.is_ascii_digit());
        let id = if self.peek().is_some_and(is_number) {
            Some(self.value("a VLAN up to 4094", |id| *id <= LAST_VLAN)?)
        } else {
            None
        };
        Ok(Expression::Is(Primitive::Vlan(id)))
    }

    fn ether(&mut self) -> Result<Expression, FilterError> {
        self.next += 1;
        let end = self.end();
        self.accept(&["host"]);
        Ok(Expression::Is(Primitive::Ether(end, self.value("a MAC address", |_| true)?)))
    }

    /// `src net 192.0.2.0/24`; an address alone means `host`.
    fn ends(&mut self) -> Result<Expression, FilterError> {
        let is_address = self.peek().is_some_and(|token| token.parse::<std::net::IpAddr>().is_ok());
        if !is_address && !matches!(self.peek(), Some("src" | "dst" | "host" | "net" | "port")) {
            return Err(self.error(format!("{} is not a primitive", self.found())));
        }
        let end = self.end();
        if self.accept(&["net"]) {
            let net = self.value("a prefix like 192.0.2.0/24", |_| true)?;
            return Ok(Expression::Is(Primitive::Net(end, net)));
        }
        if self.accept(&["port"]) {
            return self.port(end);
        }
        self.accept(&["host"]);
        Ok(Expression::Is(Primitive::Host(end, self.value("an IP address", |_| true)?)))
    }

    fn end(&mut self) -> DirQualifier {
        if self.accept(&["src"]) {
            DirQualifier::Source
        } else if self.accept(&["dst"]) {
            DirQualifier::Destination
        } else {
            DirQualifier::Either
        }
    }

    fn port(&mut self, end: DirQualifier) -> Result<Expression, FilterError> {
        Ok(Expression::Is(Primitive::Port(end, self.value("a number up to 65535", |_| true)?)))
    }

    /// Parses the next token as a value.
    fn value<T: FromStr>(&mut self, what: &str, fits: impl Fn(&T) -> bool) -> Result<T, FilterError> {
        match self.peek().and_then(|token| token.parse().ok()).filter(fits) {
            Some(value) => {
                self.next += 1;
                Ok(value)
            }
            None => Err(self.expected(what)),
        }
    }
}
