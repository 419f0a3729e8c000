//! Stage: pictures and videos become Markdown links in the text.

use crate::chat::reply::{ReplyEvent, Text};

/// Writes links in place of pictures and videos.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MediaLinks {
    /// Text or a link went out.
    has_text: bool,
    /// The last thing that went out was a link, which text does not follow on the same line.
    after_link: bool,
}

impl MediaLinks {
    /// Takes an event and hands on the resulting events.
    pub(crate) fn push(&mut self, event: ReplyEvent<'_>, out: &mut impl FnMut(ReplyEvent<'_>)) {
        match event {
            ReplyEvent::Image { url } => self.link(&format!("![image]({url})"), out),
            ReplyEvent::Video { url } => self.link(&format!("[video]({url})"), out),
            ReplyEvent::Text(_) => {
                if std::mem::take(&mut self.after_link) {
                    out(ReplyEvent::Text(Text::Plain("\n\n")));
                }
                self.has_text = true;
                out(event);
            }
            other => out(other),
        }
    }

    fn link(&mut self, link: &str, out: &mut impl FnMut(ReplyEvent<'_>)) {
        if std::mem::replace(&mut self.has_text, true) {
            out(ReplyEvent::Text(Text::Plain(&format!("\n\n{link}"))));
        } else {
            out(ReplyEvent::Text(Text::Plain(link)));
        }
        self.after_link = true;
    }
}
