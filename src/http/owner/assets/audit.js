// What owners changed.
import { api } from './api.js';
import { h, fill, tr, head, fault, loading, table, clock, empty } from './dom.js';

const WORDS = [
  [/^POST \/admin\/session$/, () => tr('Logged in', '登录')], [/^DELETE \/admin\/session$/, () => tr('Logged out', '退出登录')],
  [/^POST \/admin\/accounts$/, () => tr('Added an account', '添加账号')], [/^PUT \/admin\/accounts\/([^/]+)$/, (id) => tr(`Replaced the credential of ${id}`, `更换 ${id} 的凭据`)], [/^PATCH \/admin\/accounts\/([^/]+)$/, (id) => tr(`Renamed ${id}`, `重命名 ${id}`)], [/^DELETE \/admin\/accounts\/([^/]+)$/, (id) => tr(`Removed ${id}`, `移除 ${id}`)],
  [/^POST \/admin\/accounts\/([^/]+)\/wake$/, (id) => tr(`Woke ${id}`, `唤醒 ${id}`)], [/^POST \/admin\/accounts\/([^/]+)\/rest$/, (id) => tr(`Let ${id} rest`, `让 ${id} 休息`)], [/^POST \/admin\/accounts\/([^/]+)\/renew$/, (id) => tr(`Renewed the token of ${id}`, `为 ${id} 续期`)],
  [/^POST \/admin\/accounts\/([^/]+)\/restore-session$/, (id) => tr(`Undid the renewal of ${id}`, `撤销 ${id} 的续期`)],
  [/^POST \/admin\/logins$/, () => tr('Began a login with a code', '开始代码登录')], [/^DELETE \/admin\/logins\//, () => tr('Cancelled a login', '取消登录')], [/^POST \/admin\/reload$/, () => tr('Reloaded the files', '重新载入文件')],
  [/^POST \/admin\/keys$/, () => tr('Made a key', '创建密钥')], [/^PATCH \/admin\/keys\/([^/]+)$/, (id) => tr(`Changed the limits of ${id}`, `更改 ${id} 的限额`)], [/^DELETE \/admin\/keys\/([^/]+)$/, (id) => tr(`Revoked the key ${id}`, `吊销密钥 ${id}`)],
  [/^PATCH \/admin\/models$/, () => tr('Changed which models are listed', '更改列出的模型')], [/^PATCH \/admin\/settings(?: (.*))?$/, (names) => (names ? tr(`Changed settings: ${names}`, `更改设置：${names}`) : tr('Changed settings', '更改设置'))],
];
function words(what) {
  for (const [shape, say] of WORDS) {
    const found = shape.exec(what);
    if (found) { let id = found[1]; try { id = id && decodeURIComponent(id); } catch { /* as it is */ } return say(id); }
  }
  return what;
}

function who(name) {
  const [, way, number] = /^(page|link) session (\d+)$/.exec(name) ?? [];
  if (!way) return name === 'key' ? tr('admin key', '管理密钥') : name;
  return way === 'page' ? tr(`page, login ${number}`, `页面，第 ${number} 次登录`) : tr(`page by the link, login ${number}`, `通过链接打开的页面，第 ${number} 次登录`);
}

export async function show(place) {
  const list = h('div', {});
  fill(place, head(tr('Changes', '变更记录'), tr('Who changed what on this server, newest first.', '谁在此服务器上做了什么更改，最新在前。')), list);
  async function load() {
    fill(list, loading());
    try {
      const { changes } = await api('admin/audit');
      fill(list, changes.length ? h('section', { class: 'card flush' }, table([{ title: tr('When', '时间') }, { title: tr('Who', '谁') }, { title: tr('What', '内容') }],
        changes.map((change) => h('tr', {}, h('td', { class: 'tabular' }, clock(change.at)), h('td', {}, who(change.who)), h('td', {}, words(change.what)))), { caption: tr('Changes', '变更记录') })) : empty(tr('No change yet', '还没有变更'), tr('Changes that are made here or with the admin key are listed here.', '在此页面或使用管理密钥所做的更改会列在这里。')));
    } catch (error) { fill(list, fault(error, load)); }
  }
  await load();
}
