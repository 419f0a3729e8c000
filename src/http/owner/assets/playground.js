// A chat with the models: thoughts, sources, tool calls, files, pictures and videos; and the same as code.
import { api, base, with_csrf, Fault } from './api.js';
import { h, fill, tr, head, card, fault, icon, button, field, toggle, copy_button, code_block, dialog, say, tag, loading } from './dom.js';
import { ABILITIES } from './models.js';
import { media_link, safe_link } from './paste.js';

const FILES_MAX = 8;
const POLL_MS = 2000;
const PICTURE = /!\[[^\]]*\]\((https?:[^)\s]+)\)/g;
const TOOL = { type: 'function', function: { name: 'roll_dice', description: 'Rolls dice and gives the sum.', parameters: { type: 'object', properties: { count: { type: 'integer' }, sides: { type: 'integer' } }, required: ['count', 'sides'] } } };

// The conversation, which is there again when the owner comes back from another screen.
let kept = { messages: [], nodes: [] };
document.addEventListener('left', () => { kept = { messages: [], nodes: [] }; });

export async function show(place) {
  const state = { messages: kept.messages, files: [], abort: null, models: [] };
  const model = h('select', { 'aria-label': tr('Model', '模型') });
  const what = h('select', {}, [['chat', tr('Chat', '对话')], ['image', tr('Picture', '图片')], ['video', tr('Video', '视频')]].map(([value, label]) => h('option', { value }, label)));
  const options = { thinking: false, search: false, tools: false };
  const talk = h('div', { class: 'conversation', 'aria-live': 'polite', 'aria-busy': 'false' });
  const text = h('textarea', { rows: '1', placeholder: tr('Ask something', '输入内容'), 'aria-label': tr('Message', '消息') });
  const files = h('div', { class: 'row' });
  const picker = h('input', { type: 'file', multiple: true, class: 'sr', tabindex: '-1', 'aria-hidden': 'true' });
  const send = h('button', { type: 'submit', class: 'button primary' }, icon('send'), h('span', {}, tr('Send', '发送')));
  const key = h('input', { type: 'password', autocomplete: 'off' });
  const key_card = h('div', {});
  const able = h('div', { class: 'row' });
  const composer = h('form', { class: 'composer' }, files, text, h('div', { class: 'row between' }, h('div', { class: 'row' }, button(tr('Files', '文件'), () => picker.click(), { kind: 'small quiet', icon: 'file' })), send), picker);
  const side = card(null, h('div', { class: 'stack' },
    field(tr('What to make', '生成'), what), field(tr('Model', '模型'), model), able,
    toggle(tr('Think first', '先思考'), false, (on) => { options.thinking = on; }),
    toggle(tr('Search the web', '联网搜索'), false, (on) => { options.search = on; }),
    toggle(tr('Offer a sample tool', '提供示例工具'), false, (on) => { options.tools = on; }),
    key_card,
    h('div', { class: 'row' }, button(tr('As code', '查看代码'), () => as_code(), { kind: 'small' }), button(tr('Begin anew', '重新开始'), () => { state.abort?.abort(); state.messages = []; hello(); }, { kind: 'small quiet' }))));
  fill(place, head(tr('Playground', '试用'), tr('Asks through the same API as your programs.', '与你的程序使用同一个 API。')), h('div', { class: 'play' }, h('div', {}, talk, composer), side));
  if (kept.nodes.length) fill(talk, kept.nodes);
  else hello();

  function hello() {
    const samples = [tr('What can you help me with?', '你能帮我做什么？'), tr('Explain how a lighthouse works, in three sentences.', '用三句话解释灯塔的工作原理。'), tr('Write a haiku about the sea.', '写一首关于大海的俳句。')];
    fill(talk, h('div', { class: 'empty' }, h('h3', {}, tr('Say something', '说点什么')), h('p', {}, tr('Or begin with one of these:', '或从这里开始：')), h('div', { class: 'row center' }, samples.map((sample) => button(sample, () => { text.value = sample; composer.requestSubmit(); }, { kind: 'small' })))));
  }
  const headers = () => (key.value.trim() ? { authorization: `Bearer ${key.value.trim()}` } : with_csrf());
  async function ask(path, init = {}) {
    const response = await fetch(`${base}${path}`, { credentials: 'same-origin', ...init, headers: { ...headers(), ...(init.body && !(init.body instanceof FormData) ? { 'content-type': 'application/json' } : {}) } });
    if (response.ok) return response;
    const told = await response.json().catch(() => null);
    if (response.status === 401) fill(key_card, field(tr("A caller's key", '调用者密钥'), key, tr('This server asks for one.', '服务器要求密钥。')));
    throw new Fault(response.status, tr('', told?.error?.message_zh) || told?.error?.message || tr(`The server answered with status ${response.status}.`, `服务器返回状态 ${response.status}。`));
  }

  async function load_models() {
    try {
      const { data } = await (await ask('v1/models')).json();
      let known = [];
      try { known = (await api('admin/models')).models; } catch { /* icons only */ }
      const single = new Map();
      for (const one of known) single.set(one.id, one.abilities ?? []);
      state.models = data.map((one) => ({ id: one.id, abilities: single.get(one.id) ?? single.get([...single.keys()].filter((id) => one.id.startsWith(id)).sort((a, b) => b.length - a.length)[0]) ?? [] }));
      fill(model, state.models.map((one) => h('option', { value: one.id }, one.id)));
      able_icons();
    } catch (error) { fill(able, fault(error)); }
  }
  function able_icons() {
    const list = state.models.find((one) => one.id === model.value)?.abilities ?? [];
    fill(able, list.map((name) => { const [picture, label] = ABILITIES[name] ?? []; return picture ? h('span', { class: 'tag', title: label() }, icon(picture, label())) : null; }));
  }
  model.addEventListener('change', able_icons);
  load_models();

  text.addEventListener('input', () => { text.style.height = 'auto'; text.style.height = `${text.scrollHeight}px`; });
  text.addEventListener('keydown', (event) => { if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); composer.requestSubmit(); } });
  const take = (list) => { for (const file of list) if (state.files.length < FILES_MAX) state.files.push(file); draw_files(); };
  picker.addEventListener('change', () => { take(picker.files); picker.value = ''; });
  composer.addEventListener('dragover', (event) => { event.preventDefault(); composer.classList.add('drop'); });
  composer.addEventListener('dragleave', () => composer.classList.remove('drop'));
  composer.addEventListener('drop', (event) => { event.preventDefault(); composer.classList.remove('drop'); take(event.dataTransfer.files); });
  text.addEventListener('paste', (event) => { if (event.clipboardData?.files.length) { event.preventDefault(); take(event.clipboardData.files); } });
  function draw_files() {
    fill(files, state.files.map((file, place) => h('span', { class: 'chip' }, h('span', {}, file.name), h('button', { type: 'button', class: 'button small quiet', 'aria-label': tr(`Remove ${file.name}`, `移除 ${file.name}`), onclick: () => { state.files.splice(place, 1); draw_files(); } }, icon('close')))));
  }
  composer.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (state.abort) { state.abort.abort(); return; }
    const said = text.value.trim();
    if (!said && !state.files.length) return;
    if (!talk.querySelector('.bubble')) fill(talk);
    const before = state.messages.length;
    const sent = state.files; state.files = []; draw_files();
    text.value = ''; text.style.height = '';
    talk.append(bubble('mine', h('div', { class: 'said' }, said), sent.length ? h('div', { class: 'row' }, sent.map((file) => tag(file.name))) : null));
    const answer = bubble('', h('span', { class: 'who' }, model.value));
    talk.append(answer);
    answer.scrollIntoView({ block: 'nearest' });
    state.abort = new AbortController();
    talk.setAttribute('aria-busy', 'true');
    fill(send, icon('stop'), h('span', {}, tr('Stop', '停止')));
    try {
      if (what.value === 'image') await picture(said, sent, answer);
      else if (what.value === 'video') await video(said, sent, answer);
      else await chat(said, sent, answer);
    } catch (error) {
      if (error.name === 'AbortError') answer.append(h('p', { class: 'muted' }, tr('Stopped.', '已停止。')));
      else {
        // What got no answer is not sent again with the next message.
        state.messages.length = before;
        answer.append(fault(error));
      }
    } finally {
      state.abort = null;
      talk.setAttribute('aria-busy', 'false');
      fill(send, icon('send'), h('span', {}, tr('Send', '发送')));
      composer.scrollIntoView({ block: 'end' });
      text.focus({ preventScroll: true });
    }
  });

  async function content(said, sent) {
    if (!sent.length) return said;
    const parts = await Promise.all(sent.map(async (file) => {
      const data = await data_url(file);
      if (file.type.startsWith('image/')) return { type: 'image_url', image_url: { url: data } };
      return { type: 'file', file: { filename: file.name, file_data: data } };
    }));
    return [{ type: 'text', text: said }, ...parts];
  }
  function body_of(messages) {
    const body = { model: model.value, messages, stream: true, stream_options: { include_usage: true } };
    if (options.thinking) body.enable_thinking = true;
    if (options.search) body.enable_search = true;
    if (options.tools) body.tools = [TOOL];
    return body;
  }

  async function chat(said, sent, answer) {
    state.messages.push({ role: 'user', content: await content(said, sent) });
    for (let turn = 0; turn < 4; turn += 1) {
      const reply = await one_turn(answer);
      state.messages.push(reply);
      if (!reply.tool_calls) return;
      for (const call of reply.tool_calls) {
        const result = roll(call.function.arguments);
        answer.append(h('div', { class: 'tool-card' }, h('strong', {}, icon('tool'), ' ', call.function.name), h('pre', {}, `${call.function.arguments}\n→ ${result}`)));
        state.messages.push({ role: 'tool', tool_call_id: call.id, content: result });
      }
    }
  }
  async function one_turn(answer) {
    const began = performance.now();
    const response = await ask('v1/chat/completions', { method: 'POST', signal: state.abort.signal, body: JSON.stringify(body_of(state.messages)) });
    const thoughts = h('div', {}), box = h('details', { class: 'thoughts' }, h('summary', {}, tr('Thoughts', '思考过程')), thoughts), said = h('div', { class: 'said' });
    const pictures = new Set(), calls = [], sources = new Map();
    let whole = '', fine = null;
    answer.append(said);
    for await (const chunk of events(response.body)) {
      if (chunk.error) throw new Fault(0, chunk.error.message);
      const delta = chunk.choices?.[0]?.delta ?? {};
      const thought = delta.reasoning_content ?? delta.reasoning;
      if (thought) { if (!box.isConnected) answer.insertBefore(box, said); thoughts.append(document.createTextNode(thought)); }
      if (delta.content) { whole += delta.content; said.append(document.createTextNode(delta.content)); }
      for (const call of delta.tool_calls ?? []) {
        const kept = (calls[call.index ?? calls.length] ??= { id: call.id, type: 'function', function: { name: '', arguments: '' } });
        kept.id ??= call.id;
        kept.function.name += call.function?.name ?? '';
        kept.function.arguments += call.function?.arguments ?? '';
      }
      for (const note of delta.annotations ?? []) { const cited = note.url_citation; if (cited?.url) sources.set(cited.url, cited.title ?? cited.url); }
      for (const image of delta.images ?? []) if (image.image_url?.url) pictures.add(image.image_url.url);
      if (chunk.usage) fine = chunk.usage;
    }
    for (const [, url] of whole.matchAll(PICTURE)) pictures.add(url);
    // A picture is shown in place of its link, and a citation as a link to its source.
    if (pictures.size || sources.size) fill(said, cited(whole.replace(PICTURE, '').trim(), [...sources.keys()]));
    for (const url of pictures) answer.append(made_picture(url, said.textContent));
    if (sources.size) answer.append(h('details', { open: true }, h('summary', {}, tr(`${sources.size} sources`, `${sources.size} 个来源`)), h('ol', { class: 'sources' }, [...sources].map(([url, title]) => h('li', {}, h('a', { href: safe_link(url), target: '_blank', rel: 'noreferrer noopener' }, title))))));
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    answer.append(h('div', { class: 'row' }, h('span', { class: 'hint' }, tr(`${seconds} s`, `${seconds} 秒`), fine ? tr(`, ${fine.prompt_tokens} tokens in, ${fine.completion_tokens} out`, `，输入 ${fine.prompt_tokens} 词元，输出 ${fine.completion_tokens} 词元`) : ''), whole ? copy_button(whole, tr('Copy the answer', '复制回答')) : null));
    const reply = { role: 'assistant', content: whole };
    const made = calls.filter(Boolean);
    if (made.length) reply.tool_calls = made;
    return reply;
  }

  async function picture(said, sent, answer) {
    const wait = h('div', {}, h('p', { class: 'muted' }, tr('Making a picture. This takes up to a minute.', '正在生成图片，最多需要一分钟。')), h('div', { class: 'bar-loading' }));
    answer.append(wait);
    try {
      let response;
      if (sent.length) {
        const form = new FormData();
        form.set('model', model.value); form.set('prompt', said);
        for (const file of sent) form.append('image', file);
        response = await ask('v1/images/edits', { method: 'POST', signal: state.abort.signal, body: form });
      } else response = await ask('v1/images/generations', { method: 'POST', signal: state.abort.signal, body: JSON.stringify({ model: model.value, prompt: said, n: 1 }) });
      for (const one of (await response.json()).data) answer.append(made_picture(one.url ?? `data:image/png;base64,${one.b64_json}`, said));
    } finally { wait.remove(); }
  }

  async function video(said, sent, answer) {
    const bar = h('span', {});
    const words = h('p', { class: 'muted' }, tr('Making a video. This takes some minutes; it goes on when you leave.', '正在生成视频，需要几分钟；离开页面也会继续。'));
    answer.append(words, h('div', { class: 'progress', role: 'progressbar', 'aria-label': tr('Progress', '进度'), 'aria-valuemin': '0', 'aria-valuemax': '100' }, bar));
    const body = { model: model.value, prompt: said };
    if (sent[0]) body.input_reference = await data_url(sent[0]);
    let job = await (await ask('v1/videos', { method: 'POST', signal: state.abort.signal, body: JSON.stringify(body) })).json();
    while (!['completed', 'failed', 'cancelled'].includes(job.status)) {
      bar.style.width = `${job.progress ?? 5}%`;
      bar.parentElement?.setAttribute('aria-valuenow', String(job.progress ?? 0));
      await new Promise((resolve, reject) => { const timer = setTimeout(resolve, POLL_MS); state.abort.signal.addEventListener('abort', () => { clearTimeout(timer); reject(new DOMException('', 'AbortError')); }, { once: true }); });
      job = await (await ask(`v1/videos/${job.id}`, { signal: state.abort.signal })).json();
    }
    bar.parentElement?.remove();
    if (job.status !== 'completed') throw new Fault(0, job.error?.message ?? tr('The video was not made.', '视频生成失败。'));
    const blob = await (await ask(`v1/videos/${job.id}/content`, { signal: state.abort.signal })).blob();
    fill(words, tr('Done.', '完成。'));
    answer.append(h('video', { class: 'made', controls: true, src: URL.createObjectURL(blob), 'aria-label': said }));
  }

  function as_code() {
    const messages = state.messages.length ? state.messages.filter((one) => typeof one.content === 'string').slice(-4) : [{ role: 'user', content: text.value.trim() || tr('Hello!', '你好！') }];
    const body = body_of(messages);
    const { model: name, stream, stream_options, messages: list, ...more } = body;
    const json = JSON.stringify(body, null, 2);
    const extra = Object.keys(more).length;
    const python = `from openai import OpenAI\n\nclient = OpenAI(base_url="${base}v1", api_key="YOUR_KEY")\nstream = client.chat.completions.create(\n    model=${JSON.stringify(name)},\n    messages=${JSON.stringify(list, null, 4).replaceAll('\n', '\n    ')},\n    stream=True,${extra ? `\n    extra_body=${JSON.stringify(more).replaceAll('true', 'True')},` : ''}\n)\nfor chunk in stream:\n    print(chunk.choices[0].delta.content or "", end="")`;
    const js = `const response = await fetch("${base}v1/chat/completions", {\n  method: "POST",\n  headers: { authorization: "Bearer YOUR_KEY", "content-type": "application/json" },\n  body: JSON.stringify(${JSON.stringify({ model: name, messages: list, ...more }, null, 2).replaceAll('\n', '\n  ')}),\n});\nconsole.log((await response.json()).choices[0].message.content);`;
    const curl = `curl -N ${base}v1/chat/completions \\\n  -H "Authorization: Bearer YOUR_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${json.replaceAll("'", "'\\''")}'`;
    dialog(tr('The same as code', '对应的代码'), () => h('div', { class: 'stack' }, [['curl', curl], ['Python', python], ['JavaScript', js]].map(([name, code]) => h('div', { class: 'field' }, h('span', { class: 'label' }, name), code_block(code)))));
  }
  return () => {
    state.abort?.abort();
    kept = { messages: state.messages, nodes: talk.querySelector('.bubble') ? [...talk.childNodes] : [] };
  };
}

/** A text in which `[[1]]` leads to the first of the sources. */
function cited(text, links) {
  return text.split(/\[\[(\d+)\]\]/).map((part, place) => {
    if (place % 2 === 0) return part;
    const link = safe_link(links[part - 1]);
    return link ? h('a', { class: 'cite', href: link, target: '_blank', rel: 'noreferrer noopener' }, part) : `[[${part}]]`;
  });
}
const bubble = (kind, ...children) => h('div', { class: `bubble ${kind}` }, children);
function made_picture(url, words) {
  const link = media_link(url);
  return h('a', { href: link, target: '_blank', rel: 'noreferrer noopener' }, h('img', { class: 'made', src: link, alt: words || tr('Picture', '图片') }));
}
const data_url = (file) => new Promise((resolve, reject) => { const reader = new FileReader(); reader.onload = () => resolve(reader.result); reader.onerror = () => reject(reader.error); reader.readAsDataURL(file); });
function roll(text) {
  let count = 1, sides = 6;
  try { ({ count = 1, sides = 6 } = JSON.parse(text)); } catch { /* one die */ }
  let sum = 0;
  for (let die = 0; die < Math.min(100, count); die += 1) sum += 1 + Math.floor(Math.random() * Math.max(1, sides));
  return String(sum);
}

/** The JSON of each event of a stream. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split('\n');
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith('data:') ? line.slice(5).trim() : '';
      if (data === '[DONE]') return;
      if (data) yield JSON.parse(data);
    }
  }
}
