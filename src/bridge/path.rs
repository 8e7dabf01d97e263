//! Patterns of the paths by which a module's tensors go.

/// Whether a pattern holds a path: the layer or tensor of that path, and every one below it. In one part
/// of a path `*` stands for any characters, and `**` for any number of parts: `layer4`,
/// `layer1.*.conv2`, `**.conv1`.
pub fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let path: Vec<&str> = path.split('.').collect();
    path_matches(&pattern, &path)
}

/// Whether the pattern's parts fit the path's first parts; the rest of the path lies below.
fn path_matches(pattern: &[&str], path: &[&str]) -> bool {
    match pattern {
        [] => true,
        ["**", rest @ ..] => (0..=path.len()).any(|skipped| path_matches(rest, &path[skipped..])),
        [part, rest @ ..] => path
            .split_first()
            .is_some_and(|(first, below)| part_matches(part, first) && path_matches(rest, below)),
    }
}

/// Whether one part of a pattern, in which `*` stands for any characters, fits all of `text`.
fn part_matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    text.strip_prefix(head).is_some_and(|tail| {
        let ends = tail.char_indices().map(|(i, _)| i).chain([tail.len()]);
        ends.into_iter().any(|i| part_matches(rest, &tail[i..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("layer1", "layer1.0.conv1", true),
            ("layer1", "layer1", true),
            ("layer1", "layer10.0.conv1", false),
            ("layer1.0.conv1", "layer1.0", false),
            ("layer*", "layer10.0", true),
            ("*", "conv1", true),
            ("*.0.conv1", "layer1.0.conv1", true),
            ("*.conv1", "layer1.0.conv1", false),
            ("**.conv1", "layer1.0.conv1", true),
            ("**.conv1", "conv1", true),
            ("**.conv2", "layer1.0.conv1", false),
            ("layer1.**.conv1", "layer1.0.0.conv1", true),
            ("l*1.0.c*v*", "layer1.0.conv1", true),
            ("l*2.0", "layer1.0.conv1", false),
            ("", "", true),
            ("", "conv1", false),
            ("l\u{e4}*", "l\u{e4}\u{f6}", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern:?} {path:?}");
        }
    }
}
