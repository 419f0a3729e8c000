// Usage by day, key, model, account and kind.
import { api, base } from './api.js';
import { h, fill, tr, head, card, fault, loading, table, field, number, short, millis, empty, icon } from './dom.js';
import { bars, COLORS } from './charts.js';

const DAY = 86400000;
const iso = (time) => new Date(time).toISOString().slice(0, 10);

export async function show(place) {
  const from = h('input', { type: 'date', value: iso(Date.now() - 29 * DAY) }), to = h('input', { type: 'date', value: iso(Date.now()) });
  const ways = [['day', tr('Day', '日')], ['model', tr('Model', '模型')], ['key', tr('Key', '密钥')], ['account', tr('Account', '账号')], ['kind', tr('Kind', '类型')]];
  let by = 'day';
  const tabs = h('div', { class: 'tabs', role: 'group', 'aria-label': tr('By', '分组') }, ways.map(([value, label]) => h('button', { type: 'button', 'aria-pressed': String(value === by), onclick: (event) => { by = value; tabs.querySelectorAll('button').forEach((one) => one.setAttribute('aria-pressed', String(one === event.currentTarget))); load(); } }, label)));
  const csv = h('a', { class: 'button', download: '' }, tr('CSV', '导出 CSV'));
  const list = h('div', { class: 'stack' });
  fill(place, head(tr('Usage', '用量'), tr('Each request that asked a model, counted once. Days are of UTC.', '每个请求只计一次，日期按 UTC。'), csv),
    h('div', { class: 'filters' }, field(tr('From', '从'), from), field(tr('To', '到'), to), tabs), list);
  from.addEventListener('change', () => load());
  to.addEventListener('change', () => load());
  let mine = 0;
  async function load() {
    const now = (mine += 1);
    const query = `from=${from.value}&to=${to.value}&by=${by}`;
    csv.href = `${base}admin/usage?${query}&format=csv`;
    fill(list, loading());
    try {
      const usage = await api(`admin/usage?${query}`);
      if (now === mine) draw(usage);
    } catch (error) { if (now === mine) fill(list, fault(error, load)); }
  }
  function draw({ rows, total }) {
    if (!rows.length || !total?.requests) {
      fill(list, empty(tr('No request in this time', '此时段没有请求'), tr('Choose other days, or ask something on the playground.', '请选择其他日期，或在试用页提问。')));
      return;
    }
    const errors = Object.values(total.errors ?? {}).reduce((all, one) => all + one, 0);
    const figure = (title, value, sub) => h('dl', { class: 'figure' }, h('dt', {}, title), h('dd', {}, value, sub ? h('div', { class: 'sub' }, sub) : null));
    const names = rows.map((row) => row[by] ?? '–');
    const labels = by === 'day' ? names.map((name) => name.slice(5)) : names;
    const few = by === 'day' ? rows : rows.slice(0, 8);
    fill(list,
      h('div', { class: 'grid4' },
        figure(tr('Requests', '请求'), number(total.requests), errors ? tr(`${number(errors)} failed`, `${number(errors)} 个失败`) : tr('none failed', '无失败')),
        figure(tr('Tokens in', '输入词元'), short(total.prompt_tokens), total.cached_tokens ? tr(`${short(total.cached_tokens)} cached`, `缓存 ${short(total.cached_tokens)}`) : null),
        figure(tr('Tokens out', '输出词元'), short(total.completion_tokens), total.reasoning_tokens ? tr(`${short(total.reasoning_tokens)} thinking`, `思考 ${short(total.reasoning_tokens)}`) : null),
        figure(tr('First token', '首词元'), millis(total.first_token_ms?.p50), tr(`95 % within ${millis(total.first_token_ms?.p95)}`, `95% 在 ${millis(total.first_token_ms?.p95)} 内`))),
      h('div', { class: 'grid2 even' },
        card(tr('Requests', '请求'), bars(labels.slice(0, few.length), [{ name: tr('Requests', '请求'), values: few.map((row) => row.requests), color: COLORS[0] }], { title: tr('Requests', '请求') })),
        card(tr('Tokens', '词元'), bars(labels.slice(0, few.length), [
          { name: tr('In', '输入'), values: few.map((row) => row.prompt_tokens), color: COLORS[0] }, { name: tr('Out', '输出'), values: few.map((row) => row.completion_tokens), color: COLORS[1] }], { title: tr('Tokens', '词元') }))),
      h('section', { class: 'card flush' }, table([
        { title: ways.find(([value]) => value === by)[1] }, ...[tr('Requests', '请求'), tr('In', '输入'), tr('Out', '输出'), tr('Pictures', '图片'), tr('Videos', '视频'), tr('Failed', '失败'), tr('First token', '首词元'), tr('Total, 95 %', '总计 95%')].map((title) => ({ title, num: true })),
      ], rows.map((row) => h('tr', {}, h('th', { scope: 'row' }, row[by] ?? '–'), [number(row.requests), number(row.prompt_tokens), number(row.completion_tokens), number(row.images), number(row.videos), failed(row), millis(row.first_token_ms?.p50), millis(row.total_ms?.p95)].map((value) => h('td', { class: 'num' }, value)))), { caption: tr('Usage', '用量') })));
  }
  await load();
}
const failed = (row) => { const errors = Object.entries(row.errors ?? {}); const sum = errors.reduce((all, [, one]) => all + one, 0); return errors.length ? h('span', { title: errors.map(([name, one]) => `${name}: ${one}`).join(', ') }, number(sum)) : '0'; };
