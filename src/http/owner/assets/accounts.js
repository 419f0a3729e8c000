// Accounts: how each is, in words, and what can be done.
import { api, post, patch, remove, listen } from './api.js';
import { h, fill, refill, keeping_focus, tr, both, head, card, fault, loading, status, tag, number, short, button, menu, ask, dialog, field, say, countdown, ago, empty } from './dom.js';
import { add_cards, paste_field, device_login, where_to_find, kind_name } from './paste.js';
import { spark } from './charts.js';

export function state_of(account) {
  const resting = account.cooling && Object.values(account.cooling).find((rest) => rest?.until);
  if (account.status === 'healthy' && !account.reason) return ['good', tr('Ready', '可用')];
  if (account.status === 'down') return ['bad', word(account.reason) ?? tr('Not used at present', '暂不使用')];
  return [resting ? 'warn' : 'part', word(account.reason) ?? tr('Used, with failures', '可用，但有失败')];
}
const words = {
  login_needed: () => tr('Needs a new login', '需要重新登录'), refused: () => tr('Refused by the upstream', '被上游拒绝'), token_missing: () => tr('No token yet', '尚无令牌'),
  tripped: () => tr('Resting after failures', '失败后暂停'), probing: () => tr('Being tried again', '正在重试'), failing: () => tr('Used, with failures', '可用，但有失败'), resting: () => tr('Rests, as you wished', '按你的要求休息'),
  challenged: () => tr('The upstream asks for a human', '上游要求人工验证'), rate_limited: () => tr('Rests: too many requests', '请求过多，休息中'), quota_exhausted: () => tr('Today’s quota is used up', '今日额度已用完'),
};
/** The word for a reason; that of a part, such as `video_quota_exhausted`, names the part. */
export function word(reason) {
  if (words[reason]) return words[reason]();
  const [, part, rest] = /^([a-z]+)_(rate_limited|quota_exhausted)$/.exec(reason ?? '') ?? [];
  return part ? `${usages[part]?.() ?? part}: ${words[rest]()}` : undefined;
}
const usages = { chat: () => tr('Chat', '对话'), image: () => tr('Pictures', '图片'), video: () => tr('Videos', '视频'), research: () => tr('Research', '深度研究'), upload: () => tr('Files', '文件') };

const title = (account) => account.label || account.id;

export function account_line(account) {
  const [kind, text] = state_of(account);
  return h('a', { class: 'setting plain-link', href: '#accounts', 'data-focus': account.id }, h('span', {}, h('strong', {}, title(account)), ' ', tag(kind_name(account.kind)), h('p', {}, both(account.advice))), status(kind, text));
}

export async function show(place) {
  let accounts = null;
  // The card of each account, with the facts that it shows.
  const cards = new Map();
  const list = h('div', {});
  const add = h('div', {});
  const load = async () => {
    try { accounts = (await api('admin/accounts')).accounts; draw(); } catch (error) { cards.clear(); list.className = ''; fill(list, fault(error, load)); }
  };
  const adding = button(tr('Add an account', '添加账号'), () => { fill(add, add.firstChild ? null : add_cards(async () => { fill(add); await load(); })); add.querySelector('textarea')?.focus(); }, { kind: 'primary', icon: 'plus' });
  fill(place, head(tr('Accounts', '账号'), tr('Requests are shared among the accounts. One that fails rests, and is tried again by itself.', '请求由各账号分担；失败的账号会休息，之后自动重试。'), adding), add, list);
  function draw() {
    if (!place.isConnected || !accounts) return;
    const ids = accounts.map((account) => account.id);
    if (!ids.length || ids.join('\n') !== [...cards.keys()].join('\n')) {
      cards.clear();
      list.className = ids.length ? 'grid2 even' : '';
      for (const account of accounts) cards.set(account.id, { told: JSON.stringify(account), element: one(account, load) });
      refill(list, ids.length ? [...cards.values()].map((card) => card.element) : empty(tr('No account yet', '还没有账号'), tr('Add one, and this server can answer: paste a credential, or log in with a code.', '请添加账号：粘贴凭据，或使用代码登录。添加后服务器即可回答。')));
      return;
    }
    for (const account of accounts) {
      const card = cards.get(account.id), told = JSON.stringify(account);
      // An open menu and a button that is being pressed stay; the next event draws them.
      if (card.told === told || card.element.matches(':active') || card.element.querySelector('details[open]')) continue;
      const element = one(account, load);
      keeping_focus(card.element, () => { card.element.replaceWith(element); return element; });
      cards.set(account.id, { told, element });
    }
  }
  // What an open menu kept from being drawn is drawn once it is closed.
  list.addEventListener('toggle', draw, true);
  fill(list, loading());
  await load();
  return listen((name, data) => { if (name === 'accounts') { accounts = data.accounts; draw(); } });
}

function one(account, load) {
  const path = `admin/accounts/${encodeURIComponent(account.id)}`;
  const [kind, text] = state_of(account);
  const act = (name, label, run, options) => {
    const element = button(label, async () => {
      // The choice is made: the menu closes, so that the card can be drawn anew.
      element.closest('details')?.removeAttribute('open');
      try { await run(); } catch (error) { say(error.message, 'bad'); }
      await load();
    }, { kind: 'small', ...options });
    element.dataset.focus = `${account.id} ${name}`;
    return element;
  };
  const resting = Object.entries(account.cooling ?? {}).filter(([, rest]) => rest?.until);
  const needs_login = ['login_needed', 'token_missing'].includes(account.reason);
  const facts = [
    account.token_expires_at ? [tr('Token ends in', '令牌剩余'), countdown(account.token_expires_at)] : null,
    ...resting.map(([usage, rest]) => [tr(`${usages[usage]?.() ?? usage} again in`, `${usages[usage]?.() ?? usage}恢复`), countdown(rest.until)]),
    account.next_at && !resting.length ? [tr('Tried again in', '重试于'), countdown(account.next_at)] : null,
    [tr('Requests today', '今日请求'), number(account.today?.requests ?? 0)],
    [tr('Tokens today', '今日词元'), short((account.today?.prompt_tokens ?? 0) + (account.today?.completion_tokens ?? 0))],
  ].filter(Boolean);
  const is_resting = account.status === 'down' || resting.length > 0;
  const replacing = act('replace', tr('Replace', '替换'), () => replace(account), { kind: needs_login ? 'small primary' : 'small', title: tr('Give it a new credential', '更换凭据') });
  return card(null, h('article', { class: 'account', 'aria-label': title(account) },
    h('div', { class: 'account-head' },
      h('div', { class: 'grow' }, h('h2', {}, title(account)), h('div', { class: 'row' }, tag(kind_name(account.kind)), account.label ? tag(account.id) : null, account.origin === 'page' ? tag(tr('added here', '在此添加')) : null, account.in_flight ? tag(tr(`${number(account.in_flight)} under way`, `${number(account.in_flight)} 个进行中`), 'accent') : null)),
      status(kind, text)),
    both(account.advice) ? h('p', { class: 'muted' }, both(account.advice)) : null,
    h('dl', { class: 'facts' }, facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value)))),
    account.hours?.length ? spark(account.hours) : null,
    account.last_fault ? h('p', { class: 'hint' }, tr('Last fault: ', '最近故障：'), h('code', {}, account.last_fault.class), ' · ', ago(account.last_fault.at)) : null,
    h('div', { class: 'row acts' },
      needs_login ? replacing : null,
      act('test', tr('Test', '测试'), async () => { const told = await post(`${path}/test`); say(`${both(told.message)}${told.ms != null ? ` (${told.ms} ms)` : ''}`, told.ok ? '' : 'bad'); }, { title: tr('Ask the upstream once', '向上游请求一次') }),
      needs_login ? null : is_resting ? act('rest', tr('Wake', '唤醒'), async () => { await post(`${path}/wake`); say(tr('The rest is over', '已结束休息')); }, { title: tr('End its rest', '结束休息') }) : act('rest', tr('Rest', '休息'), () => rest(path), { title: tr('Do not use it for a while', '暂时不使用') }),
      needs_login ? null : replacing,
      menu(`${account.id} more`, [
        account.kind === 'oauth' ? act('login', tr('Log in again', '重新登录'), () => log_in_again(account)) : null,
        account.kind !== 'key' ? act('renew', tr('Renew the token', '续期令牌'), async () => { await post(`${path}/renew`); say(tr('The token was renewed', '令牌已续期')); }) : null,
        account.has_earlier_session ? act('undo', tr('Undo the renewal', '撤销续期'), async () => {
          if (await ask(tr('Go back to the session before the last renewal?', '恢复上次续期之前的会话？'), tr('The present one is kept, so that this can be undone in the same way.', '当前会话会保留，可用同样的方式换回。'), tr('Undo the renewal', '撤销续期'), 'primary')) { await post(`${path}/restore-session`); say(tr('The earlier session is in use', '已恢复之前的会话')); }
        }) : null,
        act('rename', tr('Rename', '重命名'), () => rename(account, path)),
        act('remove', tr('Remove', '移除'), async () => {
          if (await ask(tr(`Remove ${title(account)}?`, `移除 ${title(account)}?`), tr('Requests under way end first. The credential is deleted from this server.', '进行中的请求会先完成。凭据会从此服务器删除。'), tr('Remove', '移除'))) { await remove(path); say(tr('The account was removed', '账号已移除')); }
        }, { kind: 'small danger' })]))));
}

const rest = (path) => dialog(tr('Let it rest', '让账号休息'), (close) => {
  const times = [[900, tr('15 minutes', '15 分钟')], [3600, tr('1 hour', '1 小时')], [21600, tr('6 hours', '6 小时')], [86400, tr('1 day', '1 天')]];
  return h('div', { class: 'stack' }, h('p', { class: 'muted' }, tr('It gets no request in this time. Requests under way go on.', '期间不会分配请求，进行中的请求不受影响。')), h('div', { class: 'row' }, times.map(([seconds, label]) => button(label, async () => { try { await post(`${path}/rest`, { seconds }); close(); } catch (error) { say(error.message, 'bad'); } }))));
});
const replace = (account) => dialog(tr(`New credential for ${title(account)}`, `为 ${title(account)} 更换凭据`), (close) => h('div', { class: 'stack' }, paste_field(() => close(true), account.id), where_to_find()));
const log_in_again = (account) => dialog(tr(`Log in to ${title(account)}`, `登录 ${title(account)}`), (close) => device_login(() => close(true), account.id.replace(/^oauth:/, '')));
const rename = (account, path) => dialog(tr('Rename', '重命名'), (close) => {
  const label = h('input', { type: 'text', value: account.label ?? '', maxlength: '64' });
  const form = h('form', { class: 'stack' }, field(tr('Name', '名称'), label), h('div', { class: 'row end' }, h('button', { type: 'submit', class: 'button primary' }, tr('Save', '保存'))));
  form.addEventListener('submit', async (event) => { event.preventDefault(); try { await patch(path, { label: label.value.trim() }); close(true); } catch (error) { say(error.message, 'bad'); } });
  return form;
});
