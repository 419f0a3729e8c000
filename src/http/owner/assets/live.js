// Requests as they come and go, with one sentence on each.
import { api, listen } from './api.js';
import { word } from './accounts.js';
import { h, fill, refill, tr, both, head, fault, loading, table, status, empty, dialog, field, number, millis, time_of_day, tag } from './dom.js';

const SHOWN_MAX = 200;

export async function show(place) {
  let open = [], recent = [], error = null;
  const key = h('input', { type: 'search' }), account = h('input', { type: 'search' });
  const fate = h('select', {});
  const fates = [['', tr('All', '全部')], ['open', tr('Open', '进行中')], ['ok', tr('Answered', '已回答')], ['failed', tr('Failed', '失败')]];
  // Behind the four come the classes of failures that there are.
  function offer() {
    const classes = [...new Set([...open, ...recent].map((request) => request.outcome))].filter((one) => one && !['open', 'ok'].includes(one)).sort();
    if (fate.options.length === fates.length + classes.length && classes.every((one, place) => fate.options[fates.length + place].value === one)) return;
    const chosen = fate.value;
    fill(fate, [...fates, ...classes.map((one) => [one, one])].map(([value, label]) => h('option', { value, selected: value === chosen }, label)));
  }
  offer();
  const list = h('div', {});
  fill(place, head(tr('Live', '实时请求'), tr('The last requests, without what was said in them.', '最近的请求，不含内容。')),
    h('div', { class: 'filters' }, field(tr('Key', '密钥'), key), field(tr('Account', '账号'), account), field(tr('Outcome', '结果'), fate)), list);
  for (const input of [key, account, fate]) input.addEventListener('input', () => draw());
  const matches = (request) => (!key.value || (request.key ?? '').includes(key.value.trim())) && (!account.value || (request.account ?? '').includes(account.value.trim()))
    && (!fate.value || (fate.value === 'open' ? request.outcome === 'open' : fate.value === 'ok' ? request.outcome === 'ok' : fate.value === 'failed' ? !['open', 'ok'].includes(request.outcome) : request.outcome === fate.value));
  function draw() {
    if (!place.isConnected) return;
    if (error) { fill(list, fault(error, load)); return; }
    offer();
    const all = [...open, ...recent].filter(matches);
    if (!all.length) {
      fill(list, open.length + recent.length ? empty(tr('Nothing matches', '没有匹配项'), tr('Change the filters above.', '请修改上方的筛选条件。')) : empty(tr('No request yet', '还没有请求'), tr('Requests appear here as soon as a client asks.', '客户端发出请求后会显示在这里。')));
      return;
    }
    refill(list, h('section', { class: 'card flush' }, table([
      { title: tr('Time', '时间') }, { title: tr('Request', '请求') }, { title: tr('Caller', '调用者') }, { title: tr('Outcome', '结果') }, { title: tr('First token', '首词元'), num: true }, { title: tr('Total', '总计'), num: true }, { title: tr('Tokens', '词元'), num: true },
    ], all.slice(0, SHOWN_MAX).map((request) => row(request)), { caption: tr('Requests', '请求') })));
  }
  async function load() {
    try { ({ open = [], recent = [] } = await api('admin/requests?limit=100')); error = null; } catch (failure) { error = failure; }
    draw();
  }
  fill(list, loading());
  await load();
  return listen((name, data) => {
    if (name === 'requests') ({ open = [], recent = [] } = data);
    else if (name === 'request') {
      open = open.filter((one) => one.id !== data.id);
      recent = recent.filter((one) => one.id !== data.id);
      (data.outcome === 'open' ? open : recent).unshift(data);
      recent = recent.slice(0, 500);
    } else return;
    error = null;
    draw();
  });
}

const fate_of = (request) => (request.outcome === 'open' ? status('open', tr('Open', '进行中')) : request.outcome === 'ok' ? status('good', tr('Answered', '已回答')) : status('bad', request.outcome));

function row(request) {
  const look = () => timeline(request);
  return h('tr', { class: 'clickable', onclick: (event) => { if (!event.target.closest('button')) look(); } },
    h('td', { class: 'tabular' }, time_of_day(request.at_ms)),
    h('td', { class: 'main' }, h('button', { type: 'button', class: 'link', 'data-focus': request.id, onclick: look, 'aria-label': tr(`Details of ${request.model ?? request.route}`, `${request.model ?? request.route} 的详情`) }, request.model ?? request.route), both(request.advice) ? h('span', { class: 'cell-sub' }, both(request.advice)) : null),
    h('td', { class: 'tabular' }, request.key ?? '–', request.account ? h('span', { class: 'cell-sub' }, request.account) : null),
    h('td', {}, fate_of(request), request.attempts > 1 ? [' ', tag(tr(`${request.attempts} attempts`, `${request.attempts} 次尝试`))] : null),
    h('td', { class: 'num' }, millis(request.first_token_ms)), h('td', { class: 'num' }, millis(request.total_ms)),
    h('td', { class: 'num' }, number((request.prompt_tokens ?? 0) + (request.completion_tokens ?? 0))));
}

const WHAT = {
  passed_over: () => tr('An account was passed over', '跳过一个账号'), chosen: () => tr('An account was chosen', '选定账号'), no_account: () => tr('No account was free', '没有可用账号'),
  token: () => tr('Its token was fetched', '获取令牌'), files: () => tr('Files were sent', '上传文件'), continued: () => tr('The chat of the last answer goes on', '在上次回答的对话中继续'),
  not_continued: () => tr('The chat could not go on; a new one was begun', '无法继续原对话，已新建对话'), tools_in_text: () => tr('Tools are described in the prompt', '工具写入提示词'),
  failed: () => tr('An attempt failed', '一次尝试失败'), answered: () => tr('The upstream began to answer', '上游开始回答'), first_content: () => tr('First content', '首个内容'), asked_again: () => tr('The model was asked again', '再次询问模型'),
  ignored: () => tr('Parameters without effect', '不起作用的参数'), tools_shortened: () => tr('Definitions of tools were shortened', '工具定义已缩短'), fallback_model: () => tr('Another model takes the files', '由其他模型处理文件'),
  omitted_files: () => tr('Files of earlier turns were left out', '省略了较早轮次的文件'), prompt_file: () => tr('The conversation goes as a file', '对话以文件形式发送'), aspect_ratio: () => tr('Ratio of the picture or video', '图片或视频的宽高比'),
};
const FACTS = {
  account: () => tr('account', '账号'), reason: () => tr('reason', '原因'), waited_ms: () => tr('waited', '等待'), took_ms: () => tr('took', '用时'), kind: () => tr('kind', '类型'), usable: () => tr('usable', '可用'), count: () => tr('count', '数量'),
  saved_bytes: () => tr('bytes saved', '节省字节'), class: () => tr('class', '类别'), next: () => tr('next step', '下一步'), asked: () => tr('asked the upstream', '已询问上游'), code: () => tr('code', '代码'), value: () => tr('value', '值'),
};
const fact = (name, value) => (typeof value === 'boolean' ? (value ? tr('yes', '是') : tr('no', '否')) : name.endsWith('_ms') ? millis(value) : name === 'reason' ? word(value) ?? value : typeof value === 'object' ? JSON.stringify(value) : value);
const facts = (more) => Object.entries(more).filter(([, value]) => value !== null && value !== '').map(([name, value]) => `${FACTS[name]?.() ?? name}: ${fact(name, value)}`).join(' · ');

function timeline(request) {
  return dialog(request.model ?? request.route ?? tr('Request', '请求'), () => {
    const place = h('div', { class: 'stack' }, loading());
    api(`admin/requests/${encodeURIComponent(request.id)}`).then((whole) => {
      fill(place,
        h('div', { class: 'row' }, fate_of(whole), tag(whole.route ?? ''), whole.kind ? tag(whole.kind) : null, whole.stream ? tag(tr('streamed', '流式')) : null),
        both(whole.advice) ? h('p', {}, both(whole.advice)) : null,
        h('ol', { class: 'steps' }, (whole.timeline ?? []).map((step) => { const { at_ms, what, ...more } = step; return h('li', {}, h('span', { class: 'num' }, `${at_ms} ms`), h('span', {}, WHAT[what]?.() ?? what, Object.keys(more).length ? h('span', { class: 'cell-sub muted' }, facts(more)) : null)); })),
        whole.notes?.length ? h('div', {}, h('h3', {}, tr('Notes', '备注')), h('ul', { class: 'notes' }, whole.notes.map(({ name, value }) => h('li', {}, h('code', {}, name), value ? `: ${value}` : '')))) : null,
        h('p', { class: 'hint' }, tr('Request id ', '请求编号 '), h('code', {}, whole.id)));
    }).catch((error) => fill(place, fault(error)));
    return place;
  });
}
