//! Which links have to say something else after a split.
//!
//! A link is left alone exactly if it leads to the same file as before: `etc/unbound ->
//! ../var/unbound` does, since both moved. `etc/ssl/certs/x -> ../../../usr/share/certs/x` does not,
//! and needs one more `../`. Others climb out of what moved in the middle (`usr/local/bin/x ->
//! ../../bin/y`), and are written anew.

use super::listing::{End, Listing, join, parent};
use super::place::{MOUNT_POINT, moves, placed};
use super::plan::{Plan, Refusal, Rewrite};

/// Finds the links of a plan that have to be rewritten, those that cannot be, and those that lead
/// nowhere as it is.
pub(super) fn judge(tree: &Listing, plan: &mut Plan) {
    let composed = plan.apply(tree).composed();
    let border = Border { tree, composed: &composed, places: plan.places() };
    for (path, text) in tree.links() {
        let before = tree.resolve(parent(path), text);
        if matches!(before, End::Missing(_)) {
            plan.dangling.push(path.to_vec());
        }
        match border.right_text(path, text, before) {
            Some(to) if to == text => {}
            Some(to) => {
                plan.rewritten.push(Rewrite { path: path.to_vec(), from: text.to_vec(), to });
            }
            None => {
                plan.refused.push(Refusal::Link { path: path.to_vec(), text: text.to_vec() });
            }
        }
    }
}

/// The line between a tree's two halves.
pub(super) struct Border<'a> {
    /// The tree in one.
    pub(super) tree: &'a Listing,
    /// The tree as a jail sees it.
    pub(super) composed: &'a Listing,
    /// What is in the skeleton.
    pub(super) places: Vec<&'static str>,
}

impl Border<'_> {
    /// What a link has to say to lead where it led: what it says, if that does; `None` if nothing
    /// does. It is judged as if all other links led where they should, so that the order in which
    /// links are looked at does not matter.
    pub(super) fn right_text(&self, path: &[u8], text: &[u8], before: End) -> Option<Vec<u8>> {
        let wanted = self.end(before);
        let dir = self.placed(path);
        let dir = parent(&dir);
        let right = |text: &[u8]| {
            let found = self.composed.walk(dir, text, &|link| self.jump(link));
            match (&wanted, found) {
                // Round in a circle it leads wherever it is.
                (End::Circle, _) => true,
                // What was missing may be a directory that the skeleton has got.
                (End::At(wanted) | End::Missing(wanted), End::At(found))
                | (End::Missing(wanted), End::Missing(found)) => *wanted == found,
                (End::At(_), End::Missing(_)) | (_, End::Circle) => false,
            }
        };
        if right(text) {
            return Some(text.to_vec());
        }
        let deeper = [b"../", text].concat();
        if !text.starts_with(b"/") && right(&deeper) {
            return Some(deeper);
        }
        let anew = self.anew(path, text, dir);
        if right(&anew) {
            return Some(anew);
        }
        // Nothing is lost with a link that leads nowhere in more than one way.
        matches!(wanted, End::Missing(_)).then(|| text.to_vec())
    }

    /// Where a link of the composed tree leads if it is what it should be. The links that a split
    /// made are followed by what they say.
    fn jump(&self, link: &[u8]) -> Option<End> {
        let path = self.original(link)?;
        let end = self.end(self.tree.resolve(b"", path));
        Some(match end {
            End::Missing(ref path) if self.composed.get(path).is_some() => End::At(path.clone()),
            End::At(_) | End::Circle | End::Missing(_) => end,
        })
    }

    /// The template's path of one in a jail; `None` for a link that the split made.
    fn original<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let inside = path.strip_prefix(MOUNT_POINT.as_bytes());
        let inside = inside.and_then(|rest| rest.strip_prefix(b"/"));
        match inside.filter(|path| moves(path, &self.places)) {
            Some(path) => Some(path),
            None if moves(path, &self.places) => None,
            None => Some(path),
        }
    }

    /// What leads to the same name without a detour.
    fn anew(&self, path: &[u8], text: &[u8], dir: &[u8]) -> Vec<u8> {
        // The last name stays as it is: it may be a link with a meaning of its own.
        let trimmed = text.strip_suffix(b"/").unwrap_or(text);
        let cut = trimmed.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (before, last) = trimmed.split_at_checked(cut).unwrap_or((b"", trimmed));
        let named = !matches!(last, b"" | b"." | b"..");
        let (before, last) = if named { (before, last) } else { (text, &b""[..]) };
        let target = match self.tree.resolve(parent(path), before) {
            End::At(there) if last.is_empty() => there,
            End::At(there) | End::Missing(there) => join(&there, last),
            End::Circle => return text.to_vec(),
        };
        if text.starts_with(b"/") {
            // The template's own path leads on by the links in place of what moved.
            return [b"/", target.as_slice()].concat();
        }
        relative(dir, &self.placed(&target))
    }

    fn placed(&self, path: &[u8]) -> Vec<u8> {
        placed(path, &self.places)
    }

    fn end(&self, end: End) -> End {
        match end {
            End::At(path) => End::At(self.placed(&path)),
            End::Circle => End::Circle,
            End::Missing(path) => End::Missing(self.placed(&path)),
        }
    }
}

/// The path from a directory to another name.
fn relative(dir: &[u8], to: &[u8]) -> Vec<u8> {
    let names = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        parts.map(<[u8]>::to_vec).collect()
    };
    let (dir, to) = (names(dir), names(to));
    let common = dir.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = std::iter::repeat_n(b"..".to_vec(), dir.len() - common);
    let path: Vec<_> = up.chain(to.into_iter().skip(common)).collect();
    if path.is_empty() { b".".to_vec() } else { path.join(&b'/') }
}
