// How to connect each client, with this server's address filled in. Used by the front page and by the overview.
import { h, fill, tr, code_line, code_block } from './dom.js';

export function clients(base, { key = 'YOUR_KEY', model = 'qwen3-max' } = {}) {
  const root = base.replace(/\/$/, '');
  const v1 = `${root}/v1`;
  const fields = (...rows) => h('dl', { class: 'kv' }, rows.map(([name, value]) => [h('dt', {}, name), h('dd', {}, code_line(value))]));
  return [
    ['curl', 'curl', () => code_block(`curl -N ${v1}/chat/completions \\\n  -H "Authorization: Bearer ${key}" \\\n  -H "Content-Type: application/json" \\\n  -d '{"model": "${model}", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'`)],
    ['claude', 'Claude Code', () => [
      code_block(`export ANTHROPIC_BASE_URL=${root}\nexport ANTHROPIC_AUTH_TOKEN=${key}\nexport ANTHROPIC_MODEL=${model}\nclaude`),
      h('p', { class: 'muted' }, tr('Set the three variables in the shell that starts it. The address has no /v1.', '在启动它的终端里设置这三个变量，地址不带 /v1。'))]],
    ['codex', 'Codex', () => [
      h('p', { class: 'muted' }, tr('Add to ~/.codex/config.toml:', '写入 ~/.codex/config.toml:')),
      code_block(`model = "${model}"\nmodel_provider = "qwen-bridge"\n\n[model_providers.qwen-bridge]\nname = "qwen-bridge"\nbase_url = "${v1}"\nenv_key = "QWEN_BRIDGE_KEY"\nwire_api = "responses"`),
      code_block(`export QWEN_BRIDGE_KEY=${key}`)]],
    ['webui', 'Open WebUI', () => [
      h('p', { class: 'muted' }, tr('Admin Panel → Settings → Connections → OpenAI API → Add:', '管理员面板 → 设置 → 外部连接 → OpenAI API → 添加：')),
      fields(['URL', v1], [tr('Key', '密钥'), key])]],
    ['cherry', 'Cherry Studio', () => [
      h('p', { class: 'muted' }, tr('Settings → Model Provider → Add, type OpenAI:', '设置 → 模型服务 → 添加，类型选 OpenAI:')),
      fields([tr('API host', 'API 地址'), root], [tr('API key', 'API 密钥'), key], [tr('Model', '模型'), model])]],
    ['cline', 'Cline', () => [
      h('p', { class: 'muted' }, tr('API Provider: OpenAI Compatible (the same in Roo Code and Kilo Code):', 'API Provider 选 OpenAI Compatible(Roo Code、Kilo Code 相同):')),
      fields(['Base URL', v1], ['API key', key], ['Model ID', model])]],
    ['python', 'Python', () => code_block(`from openai import OpenAI\n\nclient = OpenAI(base_url="${v1}", api_key="${key}")\nstream = client.chat.completions.create(\n    model="${model}",\n    messages=[{"role": "user", "content": "Hello!"}],\n    stream=True,\n)\nfor chunk in stream:\n    print(chunk.choices[0].delta.content or "", end="")`)],
    ['node', 'JavaScript', () => code_block(`import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${v1}", apiKey: "${key}" });\nconst stream = await client.chat.completions.create({\n  model: "${model}",\n  messages: [{ role: "user", content: "Hello!" }],\n  stream: true,\n});\nfor await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");`)],
  ];
}

/** Tabs, one for each client. Arrow keys move between them. */
export function client_tabs(base, options) {
  const all = clients(base, options);
  const panel = h('div', { class: 'client-steps', role: 'tabpanel', tabindex: '0', id: 'client-panel' });
  const tabs = all.map(([id, name, build]) => h('button', { type: 'button', role: 'tab', 'aria-controls': 'client-panel', id: `client-${id}`, onclick: () => choose(id, build) }, name));
  function choose(id, build) {
    tabs.forEach((tab) => { const is = tab.id === `client-${id}`; tab.setAttribute('aria-selected', String(is)); tab.tabIndex = is ? 0 : -1; });
    panel.setAttribute('aria-labelledby', `client-${id}`);
    fill(panel, build());
  }
  const list = h('div', { class: 'tabs', role: 'tablist', 'aria-label': tr('Clients', '客户端') }, tabs);
  list.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus(); next.click();
  });
  choose(all[0][0], all[0][2]);
  return h('div', {}, list, panel);
}
