use super::*;
use crate::engine::name::{ExchangeName, VhostName};

fn config(toml: &str) -> AccessConfig {
    toml::from_str(toml).unwrap()
}

fn refused(toml: &str) -> String {
    Access::new(config(toml)).unwrap_err().to_string()
}

#[tokio::test]
async fn guest_may_do_everything_from_this_machine_only() {
    let access = Access::new(AccessConfig::default()).unwrap();
    let guest = access.verify(b"guest", b"guest", true).await.unwrap();
    assert!(guest.has_tag(Tag::Administrator));
    let permissions = guest.permissions(&VhostName::root()).unwrap();
    assert!(
        permissions.may_configure("q")
            && permissions.may_write("")
            && permissions.may_read("amq.topic")
    );
    assert!(
        guest
            .permissions(&VhostName::from_static("other"))
            .is_none()
    );
    let remote = access.verify(b"guest", b"guest", false).await.unwrap_err();
    assert_eq!(
        remote,
        AccessError::LoopbackOnly {
            user: "guest".to_owned()
        }
    );
}

#[tokio::test]
async fn wrong_logins_and_wrong_passwords_are_refused_alike() {
    let access = Access::new(AccessConfig::default()).unwrap();
    for (login, password) in [
        (&b"guest"[..], &b"wrong"[..]),
        (b"nobody", b"guest"),
        (b"\xff", b"guest"),
        (b"", b""),
        (b"guest", &[b'a'; 2000]),
    ] {
        assert_eq!(
            access.verify(login, password, true).await.unwrap_err(),
            AccessError::Refused
        );
        assert_eq!(
            access.verify(login, password, false).await.unwrap_err(),
            AccessError::Refused
        );
    }
}

#[tokio::test]
async fn a_user_without_password_cannot_log_in_with_one() {
    let access = Access::new(config(r#"users = [{ name = "robot" }]"#)).unwrap();
    for password in [&b""[..], b"robot"] {
        assert_eq!(
            access.verify(b"robot", password, true).await.unwrap_err(),
            AccessError::Refused
        );
    }
}

#[tokio::test]
async fn a_declared_hash_opens_the_account() {
    // What the reference implementation prints for `printf password | argon2 somesalt -id -t 2 -m 8 -p 1 -e`.
    let hash =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let access = Access::new(config(&format!(
        r#"users = [{{ name = "u", password_hash = "{hash}" }}]"#
    )))
    .unwrap();
    assert!(access.verify(b"u", b"password", false).await.is_ok());
    assert!(access.verify(b"u", b"Password", false).await.is_err());
}

#[tokio::test]
async fn a_success_is_remembered_and_a_failure_is_not() {
    let access = Access::new(AccessConfig::default()).unwrap();
    let user = Arc::clone(access.user("guest").unwrap());
    let proof = access.proofs.prove(b"guest", b"guest");
    assert!(access.verify(b"guest", b"wrong", true).await.is_err());
    assert!(!user.remembers(&access.proofs.prove(b"guest", b"wrong")) && !user.remembers(&proof));
    access.verify(b"guest", b"guest", true).await.unwrap();
    assert!(user.remembers(&proof));

    // With no place to compute in, only what is remembered can succeed.
    let _places = access.computations.acquire_many(2).await.unwrap();
    assert!(access.verify(b"guest", b"guest", true).await.is_ok());
    let mut wrong = std::pin::pin!(access.verify(b"guest", b"wrong", true));
    std::future::poll_fn(|context| {
        assert!(wrong.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn at_most_two_passwords_are_computed_at_once() {
    let access = Access::new(AccessConfig::default()).unwrap();
    let mut logins: Vec<_> = (0..6)
        .map(|_| Box::pin(access.verify(b"nobody", b"x", true)))
        .collect();
    for login in &mut logins {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(login.as_mut().poll(context).is_ready())
        })
        .await;
    }
    assert_eq!(access.computations.available_permits(), 0);
    for login in logins {
        assert_eq!(login.await.unwrap_err(), AccessError::Refused);
    }
    assert_eq!(access.computations.available_permits(), 2);
}

#[test]
fn a_login_given_up_keeps_its_place_until_it_is_computed() {
    let access = Access::new(AccessConfig::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        // The only blocking thread is busy, so the computation cannot end before it is looked at.
        let (go, wait) = std::sync::mpsc::channel();
        let busy = tokio::task::spawn_blocking(move || wait.recv());
        let mut login = Box::pin(access.verify(b"nobody", b"x", true));
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(login.as_mut().poll(context).is_ready())
        })
        .await;
        drop(login);
        assert_eq!(access.computations.available_permits(), 1);
        go.send(()).unwrap();
        busy.await.unwrap().unwrap();
        let _both = access.computations.acquire_many(2).await.unwrap();
    });
}

#[test]
fn another_tenants_user_may_be_let_in_narrowly() {
    let access = Access::new(config(
        r#"
        users = [{ name = "b", password = "x" }]
        permissions = [
            { user = "b", vhost = "tenant-b", configure = ".*", write = ".*", read = ".*" },
            { user = "b", vhost = "tenant-a", read = "^bills$" },
        ]"#,
    ))
    .unwrap();
    let user = access.user("b").unwrap();
    let guest = user
        .permissions(&VhostName::from_static("tenant-a"))
        .unwrap();
    assert!(guest.may_read("bills"));
    assert!(
        !guest.may_read("bills2") && !guest.may_write("bills") && !guest.may_configure("bills")
    );
    assert_eq!(user.vhosts().len(), 2);
}

#[test]
fn topic_permissions_narrow_single_exchanges() {
    let access = Access::new(config(
        r#"
        users = [{ name = "a.b" }]
        permissions = [{ user = "a.b", vhost = "/", write = ".*", read = ".*" }]
        topic_permissions = [{ user = "a.b", vhost = "/", exchange = "amq.topic", write = "^{username}\\.", read = "" }]"#,
    ))
    .unwrap();
    let permissions = access
        .user("a.b")
        .unwrap()
        .permissions(&VhostName::root())
        .unwrap();
    let (topic, other) = (
        ExchangeName::amq_topic(),
        ExchangeName::from_static("other"),
    );
    assert!(permissions.may_write_topic(&topic, "a.b.c"));
    assert!(!permissions.may_write_topic(&topic, "axb.c"));
    assert!(!permissions.may_read_topic(&topic, "a.b.c"));
    assert!(permissions.may_write_topic(&other, "x") && permissions.may_read_topic(&other, "x"));
}

#[test]
fn mistakes_are_told_in_a_sentence() {
    let one = r#"users = [{ name = "u" }]"#;
    for (toml, sentence) in [
        (
            r#"users = [{ name = "" }]"#.to_owned(),
            "the name of a user must have 1 to 255 bytes, one has 0",
        ),
        (
            r#"users = [{ name = "u" }, { name = "u" }]"#.to_owned(),
            "the user 'u' is declared twice",
        ),
        (
            r#"users = [{ name = "u", password = "a", password_hash = "b" }]"#.to_owned(),
            "the user 'u' cannot be declared: give either 'password' or 'password_hash', not both",
        ),
        (
            format!(
                r#"{one}
            permissions = [{{ user = "v", vhost = "/" }}]"#
            ),
            "a permission in vhost '/' names the user 'v', who is not declared",
        ),
        (
            format!(
                r#"{one}
            permissions = [{{ user = "u", vhost = "/" }}, {{ user = "u", vhost = "/" }}]"#
            ),
            "the permission of user 'u' in vhost '/' is declared twice",
        ),
        (
            format!(
                r#"{one}
            topic_permissions = [{{ user = "u", vhost = "/", exchange = "e" }}]"#
            ),
            "the user 'u' has a topic permission in vhost '/' but no permission there",
        ),
        (
            format!(
                r#"{one}
            permissions = [{{ user = "u", vhost = "/" }}]
            topic_permissions = [{{ user = "u", vhost = "/", exchange = "e" }}, {{ user = "u", vhost = "/", exchange = "e" }}]"#
            ),
            "the topic permission of user 'u' for exchange 'e' in vhost '/' is declared twice",
        ),
        (
            format!(
                r#"{one}
            permissions = [{{ user = "u", vhost = "/", read = "(" }}]"#
            ),
            "the read permission of user 'u' in vhost '/' is not a regular expression: ",
        ),
    ] {
        assert!(refused(&toml).starts_with(sentence), "{}", refused(&toml));
    }
}

#[test]
fn no_password_and_no_hash_is_ever_shown() {
    let config = config(
        r#"users = [{ name = "u", password = "secret" }, { name = "v", password_hash = "$argon2id$secret" }]"#,
    );
    assert!(!format!("{config:?}").contains("secret"));
    let error = Access::new(config).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("secret"));
    let access = Access::new(AccessConfig::default()).unwrap();
    let shown = format!("{access:?}");
    assert!(shown.contains("guest") && !shown.contains("$argon2id"));
}
