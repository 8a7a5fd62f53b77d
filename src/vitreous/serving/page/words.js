// What the page says, in two languages.
const WORDS = {
  en: {
    skip: "Skip to the image", language: "Language", theme: "Theme", themeSystem: "system", themeLight: "light", themeDark: "dark",
    lead: "Give the model an image: see what it predicts and where it looks.", image: "Image", model: "Model", against: "Compare with", none: "none",
    drop: "Drop an image here, or paste one", pick: "Choose a file", camera: "Take a photo", orExample: "or one of these:",
    answer: "Prediction", curl: "Copy as curl", copied: "Copied.", notCopied: "The browser doesn't allow copying here. The command is:",
    inside: "Where it looks", view: "Show", layer: "Layer", head: "Head", target: "Class", lines: "patch grid", least: "least ", most: " most",
    keys: "Move over the picture, tap it, or use the arrow keys. A click holds a patch; Escape releases it.",
    second: "Match patches in a second image", without: "Remove the second image", api: "API description (OpenAPI)",
    keyAsk: "This service needs an API key.", keyUse: "Use it", working: "Asking the model …", waiting: "The model is loading …",
    gone: "The service doesn't answer. The page keeps trying, and your image is kept.", back: "The service answers again.",
    notImage: (name) => `${name} is not an image; choose a photo or a picture (JPEG, PNG, WebP …).`,
    noInside: (name) => `${name} is not a Vision Transformer whose layers can be shown: it has no patches that attend to one another.`,
    headless: (name) => `${name} has no head, so it predicts no classes; where it looks is shown below.`,
    mean: (count) => `mean of ${count}`, headOf: (number) => `head ${number}`, of: (layer, last) => `${layer} (0 to ${last})`, automatic: "the most probable",
    views: { attention: "attention of a patch", rollout: "rollout over depth", relevance: "relevance for a class", positions: "position similarity", norms: "token norms" },
    what: {
      attention: "Where the patch under the pointer attends, in one layer.",
      rollout: "How much of each patch has reached the image's representation by this layer, if attention alone moves it (2005.00928).",
      relevance: "How much each patch supports the class (2103.15679).",
      positions: "How similar the position embeddings of the other places are to the one under the pointer.",
      norms: "The length of each patch's vector after this layer; a few very long ones are artefacts (2309.16588).",
    },
    at: (row, col) => `Row ${row}, column ${col}`,
    attends: (row, col, share) => `looks most at row ${row}, column ${col} (${share}).`,
    value: (share) => `has ${share} of the maximum.`, length: (value, most) => `has a length of ${value}; the longest is ${most}.`,
    similar: (row, col) => `is most like row ${row}, column ${col}.`,
    nearest: (row, col, value) => ` In the second image, row ${row}, column ${col} is most like it (cosine ${value}).`,
    stage: "The image in patches; arrow keys move", stage2: "The second image", example: (name) => `Example: ${name}`,
    examples: { cat: "a cat", coffee: "a cup of coffee", rocket: "a rocket" },
  },
  zh: {
    skip: "跳到图像", language: "语言", theme: "主题", themeSystem: "跟随系统", themeLight: "浅色", themeDark: "深色",
    lead: "给它一幅图像，看看模型怎么说、在看哪里。", image: "图像", model: "模型", against: "对照模型", none: "无",
    drop: "把图像拖到这里，或直接粘贴", pick: "选择文件", camera: "拍照", orExample: "或者用这些：",
    answer: "模型的回答", curl: "复制为 curl", copied: "已复制。", notCopied: "这里不允许复制；内容如下：",
    inside: "模型在看哪里", view: "显示", layer: "层", head: "注意力头", target: "类别", lines: "图块网格", least: "最少 ", most: " 最多",
    keys: "在图上移动、点按，或在图中使用方向键。单击固定一个图块，Esc 松开。",
    second: "在第二幅图像中找相似图块", without: "去掉第二幅图像", api: "程序可以请求什么",
    keyAsk: "此服务需要 API 密钥。", keyUse: "使用", working: "正在询问模型……", waiting: "模型正在加载……",
    gone: "服务没有响应。页面会自动重试，您的图像还在。", back: "服务恢复了。",
    notImage: (name) => `${name} 不是图像；请选择照片或图片（JPEG、PNG、WebP 等）。`,
    noInside: (name) => `${name} 不是可以查看内部的 Vision Transformer：它没有互相注意的图块。`,
    headless: (name) => `${name} 没有分类头，不给出类别；它在看哪里见下方。`,
    mean: (count) => `${count} 个头的平均`, headOf: (number) => `第 ${number} 头`, of: (layer, last) => `${layer}（0 到 ${last}）`, automatic: "概率最高的",
    views: { attention: "图块的注意力", rollout: "逐层展开（rollout）", relevance: "对某类别的相关性", positions: "位置相似度", norms: "向量长度" },
    what: {
      attention: "指针下的图块在这一层注意哪里。",
      rollout: "假如只有注意力在传递信息，到这一层为止每个图块有多少到达了图像表示（2005.00928）。",
      relevance: "每个图块对该类别的支持程度（2103.15679）。",
      positions: "其他位置的位置嵌入与指针所在位置有多相似。",
      norms: "每个图块的向量在这一层之后的长度；少数特别长的是伪影（2309.16588）。",
    },
    at: (row, col) => `第 ${row} 行第 ${col} 列`,
    attends: (row, col, share) => `最注意第 ${row} 行第 ${col} 列（${share}）。`,
    value: (share) => `为最大值的 ${share}。`, length: (value, most) => `长度为 ${value}；最长为 ${most}。`,
    similar: (row, col) => `与第 ${row} 行第 ${col} 列最相似。`,
    nearest: (row, col, value) => `在第二幅图像中，第 ${row} 行第 ${col} 列与它最相似（余弦 ${value}）。`,
    stage: "分成图块的图像；用方向键移动", stage2: "第二幅图像", example: (name) => `示例：${name}`,
    examples: { cat: "猫", coffee: "一杯咖啡", rocket: "火箭" },
  },
};

const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
export const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ } };
let language = kept("language") ?? (navigator.languages?.some((one) => one.startsWith("zh")) && !navigator.language.startsWith("en") ? "zh" : "en");
if (!WORDS[language]) language = "en";

export const theme = () => kept("theme") ?? "";
export const current = () => language;

// What the page says for a key: text, or the result of a function of what it speaks of.
export function say(key, ...about) {
  const found = WORDS[language][key];
  return typeof found === "function" ? found(...about) : found;
}

export function speak(chosen) {
  if (chosen) { language = chosen; keep("language", chosen); }
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const one of document.querySelectorAll("[data-t]")) one.textContent = say(one.dataset.t);
}
