//! The verbs whose power is cut.

/// What is done, and what it is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) script: &'static str,
    /// The environment that a guest writes to meanwhile: it may then have anything in it.
    pub(super) free: Option<&'static str>,
}

impl Step {
    const fn verb(script: &'static str) -> Self {
        Self { script, free: None }
    }

    pub(super) const fn free(environment: &'static str, script: &'static str) -> Self {
        Self { script, free: Some(environment) }
    }
}

pub(super) const STEPS: &[Step] = &[
    Step::verb("netbe create one"),
    Step::free("one", "fill one"),
    // Before `one@a`, so that it does not stand in the way of going back to that.
    Step::verb("netbe clone one three"),
    Step::verb("netbe snapshot one@a"),
    Step::verb("netbe clone one@a two"),
    Step::verb("netbe set role=template note=x one"),
    Step::verb("netbe set sync=always one"),
    Step::verb("netbe sharenfs three"),
    Step::verb("netbe rename three third"),
    Step::free("one", "alter one"),
    Step::verb("netbe snapshot one@b"),
    Step::verb("netbe send one@a >whole; netbe send -i a one@b >news"),
    Step::verb("netbe receive copy <whole"),
    Step::verb("netbe receive -F copy <news"),
    Step::verb("netbe rollback -r one@a"),
    Step::verb("netbe snapshot third@d"),
    Step::verb("netbe destroy third@d"),
    Step::verb("netbe promote two"),
    Step::verb("netbe destroy one"),
    Step::verb("netbe destroy third"),
];

/// What the steps are written in.
pub(super) const WORDS: &str = r#"
netbe() { "$NETBE" "$@"; }
within() {
    mkdir -p at
    netbe mount "$1" "$PWD/at" >/dev/null
    cd at
}
without() {
    cd ..
    netbe unmount "$1"
}
fill() {
    within "$1"
    mkdir -p etc home/user
    for number in 1 2 3 4 5 6; do seq "$number" 3000 >"home/user/$number"; done
    echo config >etc/config
    chmod 4750 etc/config
    chown 7:8 etc/config
    ln etc/config etc/linked
    ln -s config etc/symbolic
    mknod null c 1 3
    dd if=/dev/zero of=sparse bs=4096 count=1 seek=255 2>/dev/null
    touch -d 2001-02-03T04:05:06.789 etc/config home/user/1
    without "$1"
}
alter() {
    within "$1"
    rm home/user/2
    seq 1 5000 >home/user/3
    mv home/user/4 etc/4
    echo more >>etc/config
    without "$1"
}
"#;
