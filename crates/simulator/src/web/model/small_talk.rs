//! Small talk of the simulated model (`small_talk` of the scenario): a few answers by topic, in the language of the
//! message, which change from turn to turn.

/// An answer to a message, the `turn`-th of its conversation, counted from 0.
pub(crate) fn answer(message: &str, turn: usize, has_search: bool) -> String {
    let lower = message.to_lowercase();
    let is_chinese = is_chinese(message);
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let topic = TOPICS.iter().find(|topic| has(topic.words));
    let told = match topic {
        Some(topic) => if is_chinese { topic.zh } else { topic.en }.to_owned(),
        None => other(message, turn, is_chinese),
    };
    let cited = match (has_search, is_chinese) {
        (false, _) => "",
        (true, false) => "\n\nThe lighthouse keeper's log agrees [[1]], and so does the harbour almanac [[2]].",
        (true, true) => "\n\n灯塔日志 [[1]] 和港口年鉴 [[2]] 也是这么写的。",
    };
    let note = match (turn, is_chinese) {
        (0, false) => "\n\n(A simulated answer: no model was asked.)",
        (0, true) => "\n\n(这是模拟回答,没有询问任何模型。)",
        _ => "",
    };
    format!("{told}{cited}{note}")
}

/// Whether a text has Chinese characters.
pub(crate) fn is_chinese(text: &str) -> bool {
    text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
}

/// An answer to a message about nothing in particular.
fn other(message: &str, turn: usize, is_chinese: bool) -> String {
    let said: String = message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARS).collect();
    let said = said.trim_end_matches(['.', '!', '?', '。', '!', '?']);
    let forms = if is_chinese { OTHERS_ZH } else { OTHERS };
    let form = forms.get(turn % forms.len()).copied().unwrap_or("{}");
    form.replace("{}", said)
}

/// Most characters of a message that are repeated.
const SHOWN_CHARS: usize = 60;

struct Topic {
    /// Parts of messages that are about it, in lower case.
    words: &'static [&'static str],
    en: &'static str,
    zh: &'static str,
}

const TOPICS: &[Topic] = &[
    Topic {
        words: &["haiku", "俳句"],
        en: "Grey gulls on the pier,\nthe tide takes back its footprints –\na buoy rings twice.",
        zh: "灰鸥立码头,\n潮水收回了脚印——\n浮标响两声。",
    },
    Topic {
        words: &["lighthouse", "灯塔"],
        en: "A lighthouse shows ships where the coast is when they cannot see it. A lamp stands in a lens that gathers its \
             light into a narrow beam, and the lens turns, so that each ship sees a flash in a rhythm of its own. From the \
             rhythm and the chart a sailor knows which lighthouse it is, and so where they are.",
        zh: "灯塔在看不清海岸时为船只指明方向。灯光经透镜聚成一束并不断旋转,每座灯塔都有自己的闪光节奏。船员对照海图上的\
             节奏,就能知道是哪一座灯塔,也就知道自己在哪里。",
    },
    Topic {
        words: &["help me", "can you do", "who are you", "what are you", "能帮", "你是谁", "做什么"],
        en: "Ask me about a lighthouse, for a haiku or for a few lines of code, and I answer as a real model would: in \
             pieces, with thoughts in front when you switch them on and with sources when I may search.\n\nI can also:\n\n\
             - look at files that you drop here,\n- call the sample tool,\n- make a (very small) picture or video.",
        zh: "你可以问我灯塔的原理,让我写俳句或几行代码。我会像真正的模型一样逐字回答;打开“先思考”会先显示思考过程,\
             打开“联网搜索”会给出来源。\n\n我还可以:\n\n- 查看你拖进来的文件,\n- 调用示例工具,\n- 生成(很小的)图片或视频。",
    },
    Topic {
        words: &["code", "python", "function", "program", "代码", "函数"],
        en: "Here is a small one:\n\n```python\ndef tides(hours: float) -> float:\n    \"\"\"Height of the water in metres, \
             about twelve and a half hours from high to high.\"\"\"\n    from math import cos, pi\n    return 1.8 * cos(2 * pi \
             * hours / 12.42)\n```\n\nCall it with the hours since the last high tide.",
        zh: "下面是一个小例子:\n\n```python\ndef tides(hours: float) -> float:\n    \"\"\"水位(米),两次高潮相隔约十二个半小时。\
             \"\"\"\n    from math import cos, pi\n    return 1.8 * cos(2 * pi * hours / 12.42)\n```\n\n参数是距上次高潮的小时数。",
    },
    Topic {
        words: &["thank", "谢"],
        en: "You are welcome. Shall we go on, or begin something new?",
        zh: "不客气。继续聊,还是换个话题?",
    },
    Topic {
        words: &["hello", "hi there", "good morning", "good evening", "你好", "您好"],
        en: "Hello! What would you like to talk about? A lighthouse, a haiku, some code – or anything else.",
        zh: "你好!想聊点什么?灯塔、俳句、代码,或者别的都可以。",
    },
];

/// Answers to other messages, one for each turn in a row; `{}` stands for the message.
const OTHERS: &[&str] = &[
    "“{}” – a fine thing to begin with. I would look at it from two sides: what you want to have at the end, and what is in \
     the way. Which of the two is less clear?",
    "Then let us take “{}” step by step. First the smallest part that can be tried today; after that, what it has taught us.",
    "I remember what you said before, and “{}” fits to it. Is there a detail that you would like to hear more about?",
    "Good point. About “{}” I would ask someone who has done it once – and write down what they say first.",
];

const OTHERS_ZH: &[&str] = &[
    "“{}”——很好的开头。可以从两个方面看:最后想得到什么,以及现在缺什么。哪一方面更不清楚?",
    "那我们一步步来看“{}”:先做今天就能试的最小一步,再看它告诉了我们什么。",
    "我记得你之前说的话,“{}”正好与它相连。想深入了解哪个细节?",
    "说得对。关于“{}”,我会先请教做过的人,并记下他们最先提到的那一点。",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_follow_the_topic_the_language_and_the_turn() {
        let check = |message: &str, turn: usize, part: &str| {
            let answer = answer(message, turn, false);
            assert!(answer.contains(part), "{message}: {answer}");
            assert_eq!(answer.to_lowercase().contains("simulated answer") || answer.contains("模拟回答"), turn == 0);
        };
        check("Hello!", 0, "What would you like");
        check("Write a HAIKU about the sea.", 1, "buoy");
        check("写一首关于大海的俳句。", 0, "潮水");
        check("My boat has a leak.", 0, "“My boat has a leak”");
        check("My boat has a leak.", 1, "step by step");
        check("我的船漏水了。", 2, "“我的船漏水了”");
        let turns: Vec<String> = (1..5).map(|turn| answer("And now", turn, false)).collect();
        assert!((1..4).all(|turn| turns[turn] != turns[turn - 1]), "{turns:?}");
        assert!(answer("x", 3, true).contains("[[1]]"));
    }
}
