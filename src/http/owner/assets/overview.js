// How the server is at a glance; on a server without accounts, how to begin.
import { api, base, listen } from './api.js';
import { h, fill, refill, tr, both, head, card, fault, loading, status, number, short, code_line, notice, countdown } from './dom.js';
import { add_cards } from './paste.js';
import { client_tabs } from './clients.js';
import { account_line } from './accounts.js';

export async function show(place) {
  fill(place, loading());
  let state;
  try { state = await api('admin/accounts'); } catch (error) { state = { error }; }
  let drawn_as;
  const now = h('div', { class: 'stack' });
  const draw = () => {
    const accounts = state.accounts ?? [];
    const kind = state.error ? 'error' : accounts.length ? 'accounts' : 'first';
    // An event changes neither a text that is being pasted nor the chosen client.
    if (kind !== drawn_as && kind === 'first') fill(place, first_run(load));
    else if (kind !== 'first' && (!drawn_as || drawn_as === 'first')) fill(place, head(tr('Overview', '概览')), now, connect());
    drawn_as = kind;
    if (kind !== 'first') refill(now, kind === 'error' ? fault(state.error, load) : [figures(state), attention(accounts)]);
  };
  async function load() { try { state = await api('admin/accounts'); } catch (error) { state = { error }; } draw(); }
  draw();
  return listen((name, data) => { if (name === 'accounts' && place.isConnected) { state = data; draw(); } });
}

function first_run(load) {
  return [
    head(tr('Add your first account', '添加第一个账号'), tr('Paste what your browser sends to chat.qwen.ai, in any form. It is recognised at once; the account answers without a restart.', '粘贴浏览器发送给 chat.qwen.ai 的内容，任何形式都可以。内容会立即识别，账号无需重启即可使用。')),
    add_cards(async () => { await load(); location.hash = '#playground'; }),
  ];
}

function figures({ summary = {}, accounts }) {
  const ready = accounts.filter((account) => account.status !== 'down' && account.reason !== 'token_missing').length;
  const sum = (name) => accounts.reduce((all, account) => all + (account.today?.[name] ?? 0), 0);
  const kind = accounts.every((account) => account.status === 'healthy') ? 'good' : ready ? 'part' : 'bad';
  const figure = (title, value, sub) => h('dl', { class: 'figure' }, h('dt', {}, title), h('dd', {}, value, sub ? h('div', { class: 'sub' }, sub) : null));
  return h('div', { class: 'stack' },
    h('div', { class: 'grid4' },
      figure(tr('Accounts ready', '可用账号'), `${ready} / ${accounts.length}`, status(kind, kind === 'good' ? tr('All is well', '一切正常') : kind === 'part' ? tr('Some need you', '部分需要处理') : tr('None can answer', '均不可用'))),
      figure(tr('Under way', '进行中'), number(summary.in_flight ?? 0), summary.queued ? tr(`${summary.queued} waiting`, `${summary.queued} 个排队`) : tr('none waiting', '无排队')),
      figure(tr('Requests today', '今日请求'), number(sum('requests')), tr('UTC day', 'UTC 日')),
      figure(tr('Tokens today', '今日词元'), short(sum('prompt_tokens') + sum('completion_tokens')), tr(`${short(sum('prompt_tokens'))} in, ${short(sum('completion_tokens'))} out`, `输入 ${short(sum('prompt_tokens'))}，输出 ${short(sum('completion_tokens'))}`))),
    summary.paused_until ? notice('warn', h('span', {}, tr('The upstream asks for a human. Nothing is sent for ', '上游要求人工验证，暂停发送 '), countdown(summary.paused_until))) : null,
    summary.upstream_degraded ? notice('warn', tr('All accounts fail in the same way: the upstream has trouble, not your accounts.', '所有账号以同样方式失败：是上游的问题，而非账号。')) : null);
}

function attention(accounts) {
  const troubled = accounts.filter((account) => account.status !== 'healthy');
  const shown = troubled.length ? troubled : accounts;
  return h('section', { class: 'card flush' },
    h('div', { class: 'row between setting' }, h('h2', {}, troubled.length ? tr('Needs attention', '需要处理') : tr('Accounts', '账号')), h('a', { href: '#accounts', 'data-focus': 'all' }, tr('All accounts', '全部账号'))),
    shown.slice(0, 6).map((account) => account_line(account)));
}

function connect() {
  return card(tr('Connect a client', '连接客户端'), h('div', { class: 'stack' },
    h('div', { class: 'field' }, h('span', { class: 'label' }, tr('Base URL', '地址')), code_line(`${base}v1`)),
    client_tabs(base)));
}
