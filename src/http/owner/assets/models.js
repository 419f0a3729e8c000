// The catalogue: what each model can do, and which names the list of models has.
import { api, patch } from './api.js';
import { h, fill, tr, head, card, fault, loading, table, tag, short, toggle, icon, empty, say, code_line } from './dom.js';

export const ABILITIES = {
  thinking: ['think', () => tr('thinks', '思考')], search: ['search', () => tr('searches', '搜索')], image_input: ['eye', () => tr('sees pictures', '看图')], video_input: ['video', () => tr('watches videos', '看视频')], audio_input: ['sound', () => tr('hears', '听音频')], document_input: ['file', () => tr('reads documents', '读文档')],
  image: ['picture', () => tr('makes pictures', '生成图片')], image_edit: ['picture', () => tr('edits pictures', '编辑图片')], video: ['video', () => tr('makes videos', '生成视频')], tools: ['tool', () => tr('calls tools', '调用工具')], embeddings: ['models', () => tr('embeds', '嵌入')], deep_research: ['search', () => tr('researches', '深度研究')],
};
export function abilities(list) {
  return h('span', { class: 'row' }, list.map((name) => { const [picture, label] = ABILITIES[name] ?? ['more', () => name]; return h('span', { class: 'tag', title: label() }, icon(picture), label()); }));
}

export async function show(place) {
  const list = h('div', { class: 'stack' });
  fill(place, head(tr('Models', '模型'), tr('What is switched off stays usable by its name; it is only left out of /v1/models, so that pickers stay short.', '关闭的名称仍可使用,只是不再出现在 /v1/models 中,让选择列表保持简短。')), list);
  async function load() {
    fill(list, loading());
    try { draw(await api('admin/models')); } catch (error) { fill(list, fault(error, load)); }
  }
  async function list_it(id, is_listed, input) {
    try { await patch('admin/models', { listed: { [id]: is_listed } }); say(is_listed ? tr(`${id} is listed`, `${id} 已列出`) : tr(`${id} is not listed`, `${id} 已隐藏`)); } catch (error) { input.checked = !is_listed; say(error.message, 'bad'); }
  }
  function draw({ models, aliases }) {
    const names = Object.entries(aliases ?? {});
    fill(list,
      models.length ? models.map((model) => h('section', { class: 'card' },
        h('div', { class: 'row between' }, h('div', { class: 'row' }, h('h2', { class: 'mono' }, model.id), tag(model.kind), model.context ? tag(tr(`${short(model.context)} tokens`, `${short(model.context)} 词元`)) : null), toggle(tr('Listed', '列出'), model.listed, (on, input) => list_it(model.id, on, input))),
        h('div', { class: 'model-abilities' }, abilities(model.abilities ?? [])),
        model.variants?.length ? h('details', {}, h('summary', {}, tr(`${model.variants.filter((one) => one.listed).length} of ${model.variants.length} variants listed`, `${model.variants.length} 个变体中列出 ${model.variants.filter((one) => one.listed).length} 个`)),
          h('div', { class: 'variants' }, model.variants.map((variant) => toggle(variant.id, variant.listed, (on, input) => list_it(variant.id, on, input))))) : null)) : empty(tr('No model', '没有模型'), tr('The catalogue is empty until an account can be asked.', '有可用账号后才能获取模型目录。')),
      card(tr('Aliases', '别名'), names.length ? table([{ title: tr('Name', '名称') }, { title: tr('Stands for', '对应模型') }], names.map(([name, model]) => h('tr', {}, h('td', {}, h('code', {}, name)), h('td', {}, h('code', {}, model)))), { caption: tr('Aliases', '别名') }) : h('p', { class: 'muted' }, tr('None. MODEL_MAP lets programs with fixed model names use yours.', '暂无。MODEL_MAP 可让固定模型名的程序使用你的模型。'))));
  }
  await load();
}
