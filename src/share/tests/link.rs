//! Who gets in: link, secret, password and token.

use super::*;

#[test]
fn the_link_resolves_to_the_package() {
    let fixture = Fixture::new(|dir, options| {
        fs::write(dir.join("a"), "12345").unwrap();
        options.name = Some("Dailies 14".into());
    });
    let address = fixture.share().address();
    assert_eq!(
        fixture.share().link(),
        format!("http://{address}/LINK_ID?secret=s%26cret%20%C3%A4")
    );
    let reply = fixture.resolve("");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let link = reply.json();
    assert_eq!(link["id"], "LINK_ID");
    assert_eq!(link["name"], "Dailies 14");
    assert_eq!(link["package_size"], 5);
    assert!(link["branding"].is_object());
    for field in [
        "package_id",
        "package_token",
        "expiry",
        "sender_email",
        "recipient_email",
    ] {
        assert!(link[field].is_string(), "{field}");
    }
}

#[test]
fn a_wrong_secret_and_an_unknown_link_look_the_same() {
    let fixture = Fixture::new(|_, options| options.password = Some(Secret::new("p")));
    let right = fixture.share().link().split_once('?').unwrap().1.to_owned();
    let mut answers = Vec::new();
    for target in [
        "/v1/links/LINK_ID".to_owned(),
        "/v1/links/LINK_ID?secret=".to_owned(),
        "/v1/links/LINK_ID?secret=x".to_owned(),
        format!("/v1/links/OTHER?{right}"),
        format!("/v1/links/?{right}"),
        format!("/v1/links/LINK_ID?{right}&{right}"),
    ] {
        let reply = fixture.get(&target, "X-Link-Password: p\r\n");
        assert_eq!(reply.status, 404, "{target}");
        answers.push(reply.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
}

#[test]
fn a_password_is_asked_for_and_checked() {
    let fixture = Fixture::new(|_, options| options.password = Some(Secret::new("pässword")));
    let missing = fixture.resolve("");
    assert_eq!(
        (missing.status, missing.code()),
        (401, "link_password_required".into())
    );
    let wrong = fixture.resolve("X-Link-Password: password\r\n");
    assert_eq!(
        (wrong.status, wrong.code()),
        (403, "link_password_wrong".into())
    );
    assert_eq!(fixture.resolve("X-Link-Password: pässword\r\n").status, 200);
}

#[test]
fn a_token_is_needed_and_good_for_its_package_only() {
    let fixture = Fixture::new(|dir, _| fs::write(dir.join("a"), "x").unwrap());
    let (package, token) = fixture.enter();
    let id = fixture.list()[0]["id"].as_str().unwrap().to_owned();
    let stale = Signer::new().unwrap().token(&package, sign::now() + 60);
    for target in [
        format!("/v1/packages/{package}/files"),
        format!("/v1/packages/{package}/files/{id}/download"),
    ] {
        assert_eq!(fixture.get(&target, &token).status, 200);
        assert_eq!(fixture.get(&target, "").status, 401);
        let forged = format!("X-Package-Token: {stale}\r\n");
        assert_eq!(fixture.get(&target, &forged).status, 401);
        let other = target.replace(&package, "other");
        assert_eq!(fixture.get(&other, &token).status, 401);
    }
    let none = format!("/v1/packages/{package}/files/{}/download", "0".repeat(32));
    assert_eq!(fixture.get(&none, &token).status, 404);
}

#[test]
fn a_public_url_is_in_the_link_and_the_addresses() {
    let fixture = Fixture::new(|dir, options| {
        fs::write(dir.join("a"), "abc").unwrap();
        options.public_url = Some("https://example.com/p".into());
    });
    assert!(
        fixture
            .share()
            .link()
            .starts_with("https://example.com/p/LINK_ID?secret=")
    );
    let (package, token) = fixture.enter();
    let id = fixture.list()[0]["id"].as_str().unwrap().to_owned();
    let target = format!("/v1/packages/{package}/files/{id}/download");
    let url = fixture.get(&target, &token).json()["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = url.strip_prefix("https://example.com/p").unwrap();
    assert_eq!(fixture.get(path, "").body, b"abc");
}
